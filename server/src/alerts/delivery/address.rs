//! Which addresses a receiver may have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 networks that are not the public Internet (IANA's registry of special purposes).
const SPECIAL_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// The only IPv6 network with addresses of the public Internet.
const GLOBAL_UNICAST: ([u16; 8], u8) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Parts of it that are something else: protocol assignments with Teredo, documentation, 6to4, documentation.
const SPECIAL_V6: [([u16; 8], u8); 4] = [
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    ([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

/// Whether a receiver may have this address: it is one of the public Internet, or the configuration names it.
pub(super) fn may_be_reached(address: IpAddr, allowed: &[IpNet]) -> bool {
    let embedded = embedded_v4(address);
    let is_allowed = |address: &IpAddr| allowed.iter().any(|net| net.contains(address));
    is_allowed(&address)
        || match embedded {
            // What is reached is the IPv4 address.
            Some(v4) => is_allowed(&v4.into()) || is_public_v4(v4),
            None => match address {
                IpAddr::V4(v4) => is_public_v4(v4),
                IpAddr::V6(v6) => is_public_v6(v6),
            },
        }
}

/// The IPv4 address that an IPv6 address stands for: mapped (`::ffff:0:0/96`), or behind NAT64 (`64:ff9b::/96`).
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    v6.to_ipv4_mapped().or_else(|| match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    })
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    // The lengths of the table are at most 32.
    !SPECIAL_V4.iter().any(|(net, length)| Ipv4Net::new_assert((*net).into(), *length).contains(&address))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let is_within = |(net, length): &([u16; 8], u8)| Ipv6Net::new_assert((*net).into(), *length).contains(&address);
    is_within(&GLOBAL_UNICAST) && !SPECIAL_V6.iter().any(is_within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_public_internet_is_reached_unasked() {
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
        ] {
            assert!(!may_be_reached(address(refused), &[]), "{refused}");
        }
        for reached in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001:830::200e",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(may_be_reached(address(reached), &[]), "{reached}");
        }
    }

    #[test]
    fn what_the_configuration_names_is_reached_in_each_of_its_forms_and_nothing_else_is() {
        let allowed: Vec<IpNet> = ["127.0.0.0/8", "fd00:1::/32"].map(|net| net.parse().unwrap()).to_vec();
        for reached in ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::127.1.2.3", "fd00:1::5", "8.8.8.8"] {
            assert!(may_be_reached(address(reached), &allowed), "{reached}");
        }
        for refused in ["10.0.0.1", "::1", "::127.0.0.1", "fd00:2::5", "169.254.169.254", "::ffff:10.0.0.1"] {
            assert!(!may_be_reached(address(refused), &allowed), "{refused}");
        }
        // A network written in IPv6 form allows what is written so.
        let mapped: Vec<IpNet> = vec!["::ffff:127.0.0.0/104".parse().unwrap()];
        assert!(may_be_reached(address("::ffff:127.0.0.1"), &mapped));
    }
}
