//! The address of a server, completed by the path that requests go to.

use reqwest::Url;

use super::ConfigError;

/// The server's address with the path below it; a path in the address is kept as a prefix.
pub(super) fn complete(given: &str, path: &str) -> Result<Url, ConfigError> {
    let error = |reason: &str| ConfigError::Url { url: given.to_owned(), reason: reason.to_owned() };
    let mut url = Url::parse(given).map_err(|parse| error(&parse.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(error("it begins with neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(error("it holds a password, which would end up in logs; give it as credentials"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(error("it has a query or a fragment"));
    }
    let prefix = url.path().trim_end_matches('/');
    // Who gives the whole address means the same.
    let path = match prefix.ends_with(path) {
        true => prefix.to_owned(),
        false => format!("{prefix}{path}"),
    };
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSH: &str = "/push.v1.PusherService/Push";

    #[test]
    fn addresses_are_completed_or_refused_in_words() {
        for (given, expected) in [
            ("http://localhost:4040", "http://localhost:4040/push.v1.PusherService/Push"),
            ("https://example.org/pyroscope/", "https://example.org/pyroscope/push.v1.PusherService/Push"),
            (
                "http://localhost:4040/push.v1.PusherService/Push",
                "http://localhost:4040/push.v1.PusherService/Push",
            ),
        ] {
            assert_eq!(complete(given, PUSH).unwrap().as_str(), expected);
        }
        for given in
            ["localhost:4040", "localhost", "", "ftp://x", "http://user:pass@x", "http://x/?a=b", "http://"]
        {
            let error = complete(given, PUSH).unwrap_err().to_string();
            assert!(error.contains("it should look like http://localhost:4040"), "{error}");
        }
    }
}
