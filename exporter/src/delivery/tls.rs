//! TLS as every sink sets it up.

use rustls_native_certs::CertificateResult;

/// TLS by ring, trusting what the machine trusts. Certificates are loaded only where they are needed: hundreds of
/// them are some megabytes, which a process that pushes to its neighbour should not pay.
///
/// Errors: in words, where there are none to trust.
pub(super) fn config(
    is_needed: bool,
    load: impl FnOnce() -> CertificateResult,
) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    if is_needed {
        let found = load();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let first = found.errors.first().map(ToString::to_string).unwrap_or_default();
            let words = format!(
                "no trusted certificates were found on this machine; install them or set SSL_CERT_FILE {first}"
            );
            return Err(words.trim_end().to_owned());
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can't be set up: {error}"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_loaded_only_where_they_are_needed() {
        let mut loads = 0;
        let mut load = || {
            loads += 1;
            CertificateResult::default()
        };
        assert!(config(false, &mut load).is_ok());
        let error = config(true, &mut load).unwrap_err();
        assert!(error.contains("SSL_CERT_FILE"), "{error}");
        assert_eq!(loads, 1);
    }
}
