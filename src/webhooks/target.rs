//! Where we post. An endpoint's address is what an admin typed, and must not become a way into the
//! network that this process stands in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// The longest address.
pub const URL_BYTES_MAX: usize = 2_000;

/// Why we do not post there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not an address at all, or a very long one.
    #[error("must be a URL of at most 2,000 characters")]
    NoUrl,
    /// Names and passwords in addresses end up in logs.
    #[error("must not have a user, a password or a fragment")]
    Credentials,
    /// What is posted must not be read on the way.
    #[error("must begin with https:// (or http:// on this machine, while JANGBU_LIVE is off)")]
    Scheme,
    /// An address of this machine or its network.
    #[error("must not lead into this machine's network while JANGBU_LIVE is on")]
    Private,
}

/// Whether we post to this address.
pub fn check(text: &str, live: bool) -> Result<Url, TargetError> {
    let url = Url::parse(text).map_err(|_| TargetError::NoUrl)?;
    if text.len() > URL_BYTES_MAX || !url.has_host() {
        return Err(TargetError::NoUrl);
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(TargetError::Credentials);
    }
    let host = url.host_str().unwrap_or_default();
    let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let loopback = literal.map_or(host == "localhost" || host.ends_with(".localhost"), |ip| {
        ip.to_canonical().is_loopback()
    });
    match url.scheme() {
        "https" => {}
        "http" if loopback && !live => {}
        _ => return Err(TargetError::Scheme),
    }
    if live && (loopback || literal.is_some_and(|ip| !is_public(ip))) {
        return Err(TargetError::Private);
    }
    Ok(url)
}

/// Whether an address belongs to the Internet at large, by the registries of special purposes
/// (RFC 6890 and what followed).
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

const fn is_public_v4(ip: Ipv4Addr) -> bool {
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        || matches!(
            ip.octets(),
            // This network, carriers' own, protocol assignments, relays, benchmarks, and what is reserved.
            [0 | 240..=255, ..] | [100, 64..=127, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [198, 18 | 19, ..]
        ))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // IPv4 in other clothes: mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        // Teredo, other protocol assignments, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Everything that is given out for use on the Internet.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names to public addresses alone, at the moment of connecting: a name that was public when it
/// was registered may lead elsewhere later.
#[derive(Debug)]
pub struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(TargetError::Private.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_post_in_secret_or_to_ourselves() {
        for good in [
            "https://books.example.com/x?y=1",
            "https://10.0.0.1/",
            "http://127.0.0.1:9/",
            "http://[::1]:9/",
        ] {
            assert!(check(good, false).is_ok(), "{good}");
        }
        for (wrong, error) in [
            ("", TargetError::NoUrl),
            ("/hook", TargetError::NoUrl),
            ("mailto:a@example.com", TargetError::NoUrl),
            ("http://books.example.com/", TargetError::Scheme),
            ("http://10.0.0.1/", TargetError::Scheme),
            ("ftp://books.example.com/", TargetError::Scheme),
            ("https://kim:secret@books.example.com/", TargetError::Credentials),
            ("https://books.example.com/#here", TargetError::Credentials),
        ] {
            assert_eq!(check(wrong, false), Err(error), "{wrong}");
        }
        assert_eq!(
            check(&format!("https://a.example/{}", "x".repeat(2_000)), false),
            Err(TargetError::NoUrl)
        );
    }

    #[test]
    fn a_live_shop_posts_to_nobody_in_its_own_network() {
        assert!(check("https://books.example.com/", true).is_ok());
        assert!(check("https://8.8.8.8/", true).is_ok());
        assert_eq!(check("http://127.0.0.1:9/", true), Err(TargetError::Scheme));
        for wrong in [
            "https://localhost/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://10.1.2.3/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[64:ff9b::a00:1]/",
        ] {
            assert_eq!(check(wrong, true), Err(TargetError::Private), "{wrong}");
        }
    }

    #[test]
    fn what_is_public_is_known() {
        let public = |text: &str| is_public(text.parse().expect("an address"));
        for good in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "2002:808:808::1",
        ] {
            assert!(public(good), "{good}");
        }
        for wrong in [
            "0.0.0.0",
            "100.64.0.1",
            "172.16.0.1",
            "192.168.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:a00:1::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(!public(wrong), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_resolved() {
        let found = PublicOnly.resolve("localhost".parse().expect("a name")).await;
        assert!(found.is_err());
    }
}
