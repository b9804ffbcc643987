//! Names of Java's functions.

/// Packages of the Java platform.
const JAVA_PACKAGES: &[&str] =
    &["java.", "javax.", "jdk.", "sun.", "com.sun.", "kotlin.", "kotlinx.", "scala."];

/// Whether a function is the platform's.
pub(super) fn is_java_platform(function: &str) -> bool {
    let name = java_name(function);
    JAVA_PACKAGES.iter().any(|package| name.starts_with(package))
}

/// `void org.acme.Inbox$Reader.take(java.time.Duration)` and `Lorg/acme/Inbox$Reader;::take` are
/// `org.acme.Inbox$Reader.take`.
pub(crate) fn java_name(function: &str) -> String {
    let name = function.split_once('(').map_or(function, |(name, _)| name);
    let name = name.rsplit(' ').next().unwrap_or(name);
    let class = name.strip_prefix('L').filter(|rest| rest.contains('/')).unwrap_or(name);
    class.replace(";::", ".").replace("::", ".").replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_names_are_the_same_however_they_were_written() {
        for written in [
            "void org.acme.Inbox$Reader.take(java.util.concurrent.locks.Lock)",
            "Lorg/acme/Inbox$Reader;::take",
            "org/acme/Inbox$Reader.take",
            "org.acme.Inbox$Reader.take",
        ] {
            assert_eq!(java_name(written), "org.acme.Inbox$Reader.take", "{written}");
        }
        for odd in ["", "(", "L", "L/", "::", " "] {
            java_name(odd);
        }
    }
}
