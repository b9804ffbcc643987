//! The content security policy of the page: nothing from anywhere, and only the two blocks we wrote.
//!
//! Hashes rather than a nonce: a nonce in a file on disk is the same at every opening and would allow any
//! block that repeats it; a hash allows exactly the text that we shipped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The policy for a page whose only script and style are the two given texts.
pub(super) fn content_security_policy(script: &str, style: &str) -> String {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; base-uri 'none'; form-action 'none'",
        hash_source(script),
        hash_source(style)
    )
}

/// A text's hash as the policy language writes it (CSP level 3, section 2.3.1).
fn hash_source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_as_the_standard_shows() {
        // The example that MDN gives for script-src.
        assert_eq!(hash_source("doSomething();"), "sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc=");
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let policy = content_security_policy("a", "b");
        assert!(policy.starts_with("default-src 'none';"));
        assert!(!policy.contains("unsafe"));
    }
}
