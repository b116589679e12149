package wire

import "strconv"

// Errno is an error number of the protocol. Zero is success.
type Errno uint32

// The error numbers that the protocol knows.
const (
	EPERM     Errno = 1
	EIO       Errno = 5
	ENOMEM    Errno = 12
	EINVAL    Errno = 22
	ENOSPC    Errno = 28
	EOVERFLOW Errno = 75
	ENOTSUP   Errno = 95
	ESHUTDOWN Errno = 108
)

// Error returns the number's name with a word of explanation.
func (e Errno) Error() string {
	switch e {
	case 0:
		return "success"
	case EPERM:
		return "EPERM: not permitted"
	case EIO:
		return "EIO: input/output error"
	case ENOMEM:
		return "ENOMEM: out of memory"
	case EINVAL:
		return "EINVAL: invalid request"
	case ENOSPC:
		return "ENOSPC: no space left"
	case EOVERFLOW:
		return "EOVERFLOW: too large"
	case ENOTSUP:
		return "ENOTSUP: not supported"
	case ESHUTDOWN:
		return "ESHUTDOWN: the server is shutting down"
	}
	return "errno " + strconv.FormatUint(uint64(e), 10)
}
