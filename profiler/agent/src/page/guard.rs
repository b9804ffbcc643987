//! Who may read profiles: the page itself, and programs on the way that the person chose; no other page of the same browser.
//!
//! A page from anywhere can make a browser ask any address. Whose answer it may read is decided by names: a name of its own that
//! it points to this machine (DNS rebinding) is a foreign `Host`, and a request across sites says so in `Origin` and
//! `Sec-Fetch-Site`. All three are checked, of every request.

use std::net::SocketAddr;

use hyper::header::{HOST, HeaderValue, ORIGIN};
use hyper::{HeaderMap, StatusCode, Uri};

/// Why a request is turned away, with words for a person.
pub(super) type Refusal = (StatusCode, String);

/// Decides about a request by its headers, its target, and the address of ours that it reached.
pub(super) fn refusal(headers: &HeaderMap, uri: &Uri, reached: SocketAddr) -> Option<Refusal> {
    let ours = OurNames::of(reached);
    let named = headers.get_all(HOST).iter().collect::<Vec<_>>();
    let host_is_ours = matches!(named[..], [host] if ours.contain(text(host)));
    let target_is_ours = uri.authority().is_none_or(|authority| ours.contain(authority.as_str()));
    if !host_is_ours || !target_is_ours {
        let words = format!(
            "this page answers at http://{} alone; through a tunnel use the same port: ssh -L {port}:127.0.0.1:{port} …\n",
            ours.first(),
            port = reached.port()
        );
        return Some((StatusCode::MISDIRECTED_REQUEST, words));
    }
    let foreign_origin = headers.get_all(ORIGIN).iter().any(|origin| {
        let authority = text(origin).strip_prefix("http://");
        authority.is_none_or(|authority| !ours.contain(authority))
    });
    if foreign_origin || is_of_another_site(headers, uri) {
        return Some((StatusCode::FORBIDDEN, "another page may not read profiles\n".to_owned()));
    }
    None
}

/// Whether a browser says that another site asks. A link to the page that a person follows is no such thing: what it opens
/// can be read by nobody but that person.
fn is_of_another_site(headers: &HeaderMap, uri: &Uri) -> bool {
    let header = |name| headers.get(name).map_or("", text);
    let of_another = !matches!(header("sec-fetch-site"), "" | "same-origin" | "none");
    let followed = header("sec-fetch-mode") == "navigate" && header("sec-fetch-dest") == "document";
    of_another && !(followed && uri.path() == "/")
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("\u{0}")
}

/// The names under which a browser reaches us.
struct OurNames(Vec<String>);

impl OurNames {
    fn of(reached: SocketAddr) -> OurNames {
        let port = reached.port();
        let reached = SocketAddr::new(reached.ip().to_canonical(), port);
        let mut names = vec![reached.to_string()];
        names.extend(["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}")));
        OurNames(names)
    }

    fn first(&self) -> &str {
        &self.0[0]
    }

    fn contain(&self, name: &str) -> bool {
        // Of the usual port browsers leave the number out.
        let is = |ours: &String| {
            ours.eq_ignore_ascii_case(name)
                || ours.strip_suffix(":80").is_some_and(|ours| ours.eq_ignore_ascii_case(name))
        };
        self.0.iter().any(is)
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn status(target: &str, headers: &[(&str, &str)], reached: &str) -> u16 {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        refusal(&headers, &target.parse().unwrap(), reached.parse().unwrap())
            .map_or(200, |(status, _)| status.as_u16())
    }

    #[test]
    fn only_our_own_names_are_answered_at() {
        for (host, reached, expected) in [
            ("127.0.0.1:4142", "127.0.0.1:4142", 200),
            ("localhost:4142", "127.0.0.1:4142", 200),
            ("LOCALHOST:4142", "[::1]:4142", 200),
            ("[::1]:4142", "[::1]:4142", 200),
            ("10.0.0.7:4142", "10.0.0.7:4142", 200),
            ("10.0.0.7:4142", "[::ffff:10.0.0.7]:4142", 200),
            ("127.0.0.1", "127.0.0.1:80", 200),
            ("127.0.0.1", "127.0.0.1:4142", 421),
            ("localhost:80", "127.0.0.1:4142", 421),
            ("10.0.0.8:4142", "10.0.0.7:4142", 421),
            ("rebound.example:4142", "127.0.0.1:4142", 421),
            ("127.0.0.1.rebound.example:4142", "127.0.0.1:4142", 421),
            ("127.0.0.1:4142@rebound.example", "127.0.0.1:4142", 421),
            ("", "127.0.0.1:4142", 421),
        ] {
            assert_eq!(status("/api/health", &[("host", host)], reached), expected, "{host} at {reached}");
        }
        assert_eq!(status("/", &[], "127.0.0.1:4142"), 421, "no name at all");
        let target = "http://rebound.example:4142/";
        assert_eq!(status(target, &[("host", "127.0.0.1:4142")], "127.0.0.1:4142"), 421);
        let two = [("host", "127.0.0.1:4142"), ("host", "127.0.0.1:4142")];
        let mut headers = HeaderMap::new();
        for (_, value) in two {
            headers.append(HOST, HeaderValue::from_static(value));
        }
        let refused = refusal(&headers, &"/".parse().unwrap(), "127.0.0.1:4142".parse().unwrap());
        assert_eq!(refused.map(|(status, _)| status.as_u16()), Some(421));
    }

    #[test]
    fn no_other_page_reads_anything() {
        let asked = |target, more: &[(&str, &str)]| {
            status(target, &[&[("host", "127.0.0.1:4142")], more].concat(), "127.0.0.1:4142")
        };
        for (more, expected) in [
            (&[("origin", "http://127.0.0.1:4142")][..], 200),
            (&[("origin", "http://localhost:4142")], 200),
            (&[("origin", "https://127.0.0.1:4142")], 403),
            (&[("origin", "http://127.0.0.1:3000")], 403),
            (&[("origin", "http://other.example")], 403),
            (&[("origin", "null")], 403),
            (&[("sec-fetch-site", "same-origin")], 200),
            (&[("sec-fetch-site", "none")], 200),
            (&[("sec-fetch-site", "same-site")], 403),
            (&[("sec-fetch-site", "cross-site")], 403),
        ] {
            assert_eq!(asked("/api/profile", more), expected, "{more:?}");
        }
        let followed = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!((asked("/", &followed), asked("/api/profile", &followed)), (200, 403));
        let framed =
            [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
        assert_eq!(asked("/", &framed), 403);
    }
}
