package webhook

import (
	"fmt"
	"net/netip"
	"syscall"
)

// reserved lists what is routed like any other address, or looks so, and is none of the
// public Internet; IANA's registries of special-purpose addresses name them.
func reserved() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),
		netip.MustParsePrefix("100.64.0.0/10"),    // carrier-grade NAT; metadata at Alibaba
		netip.MustParsePrefix("168.63.129.16/32"), // metadata at Azure
		netip.MustParsePrefix("192.0.0.0/24"),     // metadata at Oracle
		netip.MustParsePrefix("192.0.2.0/24"),
		netip.MustParsePrefix("192.88.99.0/24"),
		netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("2001::/23"), // Teredo, ORCHID, benchmarks
		netip.MustParsePrefix("2001:db8::/32"),
		netip.MustParsePrefix("2002::/16"), // 6to4: another IPv4 address inside
		netip.MustParsePrefix("3fff::/20"),
	}
}

// Public reports whether an address is one of the public Internet: not private, loopback,
// link-local (where clouds keep metadata), unique-local, multicast, carrier-grade NAT or
// reserved, in whatever form it is written.
func Public(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if embedded, ok := translated(addr); ok {
		addr = embedded
	}
	if !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return false
	}
	if addr.Is6() && !netip.MustParsePrefix("2000::/3").Contains(addr) {
		return false
	}
	for _, p := range reserved() {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}

// translated returns the IPv4 address that a NAT64 gateway makes of an address.
func translated(addr netip.Addr) (netip.Addr, bool) {
	if !netip.MustParsePrefix("64:ff9b::/96").Contains(addr) {
		return netip.Addr{}, false
	}
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}

// BlockedError says that an address was not connected to.
type BlockedError struct{ Address netip.Addr }

// Error implements error.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("%s is no public address: --webhook-allow-private allows such", e.Address)
}

// refusePrivate is a [net.Dialer.Control]: it is asked about each resolved address just
// before it is connected to.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if !Public(to.Addr()) {
		return &BlockedError{to.Addr()}
	}
	return nil
}
