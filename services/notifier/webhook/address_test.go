package webhook

import (
	"errors"
	"net/netip"
	"testing"
)

func TestPublic(t *testing.T) {
	for _, address := range []string{
		"1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "223.255.255.255",
		"2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
	} {
		if !Public(netip.MustParseAddr(address)) {
			t.Errorf("%s is not taken for public", address)
		}
	}
	for _, address := range []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1",
		"169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1",
		"198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
		"64:ff9b:1::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2001::1", "2002:7f00:1::",
		"100::1", "3fff::1", "4000::1",
	} {
		if Public(netip.MustParseAddr(address)) {
			t.Errorf("%s is taken for public", address)
		}
	}
}

func TestRefusePrivate(t *testing.T) {
	if err := refusePrivate("tcp4", "1.1.1.1:443", nil); err != nil {
		t.Error(err)
	}
	for _, address := range []string{"127.0.0.1:80", "[::1]:443", "[fe80::1%lo]:443"} {
		if err := refusePrivate("tcp", address, nil); !errors.As(err, new(*BlockedError)) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := refusePrivate("tcp", "nonsense", nil); err == nil {
		t.Error("what cannot be read is let through")
	}
}
