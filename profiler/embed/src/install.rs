//! Installation: publish the process context, then follow the application's contexts.

use std::fmt;

use spanprof_context::process::{self, ProcessContext, PublishError, Value};

use crate::resource;

/// Makes this process publish its active spans, with the service's name and attributes from the environment.
///
/// Call it once, early. Spans that are active already are published from their next enter on. A second call publishes
/// the process context anew. See [`builder`] to set the name by hand.
///
/// Errors leave the service as it was, apart from profiles that carry no spans: report them and go on.
pub fn install() -> Result<Installed, InstallError> {
    builder().install()
}

/// Sets by hand what [`install`] takes from the environment.
pub fn builder() -> Builder {
    Builder { service_name: None, resource: Vec::new() }
}

/// What the process says of itself; made by [`builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    service_name: Option<String>,
    resource: Vec<(String, String)>,
}

impl Builder {
    /// The service's name. Takes precedence over the environment's.
    #[must_use]
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// The service's version.
    #[must_use]
    pub fn service_version(self, version: impl Into<String>) -> Self {
        self.resource_attribute("service.version", version)
    }

    /// A resource attribute, such as `deployment.environment.name`. Takes precedence over the environment's.
    #[must_use]
    pub fn resource_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource.push((name.into(), value.into()));
        self
    }

    /// Installs; see [`install`].
    pub fn install(self) -> Result<Installed, InstallError> {
        let mut notes = Vec::new();
        let environment = |name: &str| std::env::var_os(name);
        let resource = resource::compose(self.service_name, self.resource, environment, &mut notes);
        let resource = resource.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        process::publish(&ProcessContext { resource, attributes: Vec::new() })
            .map_err(InstallError::Process)?;
        #[cfg(feature = "opentelemetry")]
        if !crate::observer::install() {
            return Err(InstallError::ObserverTaken);
        }
        if !spanprof_context::thread::owns_standard_symbol() {
            notes.push(
                "another library in this program defines otel_thread_ctx_v1; readers that go by the symbol see its records"
                    .to_owned(),
            );
        }
        Ok(Installed { notes })
    }
}

/// What came of the installation.
#[derive(Clone, Debug)]
pub struct Installed {
    notes: Vec<String>,
}

impl Installed {
    /// Settings that were not followed, each in a sentence for the service's log. Mostly empty.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Why the process's spans are not published.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// The process context could not be published.
    Process(PublishError),
    /// OpenTelemetry admits one context observer per process, and another one was there first.
    ObserverTaken,
}

impl fmt::Display for InstallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(error) => error.fmt(formatter),
            Self::ObserverTaken => formatter.write_str(
                "OpenTelemetry's context observer is taken: another library that publishes spans was installed first; \
                 keep one of the two",
            ),
        }
    }
}

impl std::error::Error for InstallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Process(error) => Some(error),
            Self::ObserverTaken => None,
        }
    }
}
