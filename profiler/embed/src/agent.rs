//! The agent: what a service starts in `main` and keeps until its end.

use std::io::Write as _;

use spanprof_context::process::{self, ProcessContext, Value};

use crate::resource;
use crate::settings::{Settings, Source, StartError};

/// The running agent. Keep it until the service ends; dropping it sends what was gathered, within a bounded time.
///
/// Spans are published for the rest of the process's life all the same.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let _spanprof = spanprof::Agent::builder().service_name("orders").start()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the self-profile runs only as long as the agent lives"]
#[derive(Debug)]
pub struct Agent {
    notes: Vec<String>,
    #[cfg(feature = "self-profile")]
    profile: Option<crate::self_profile::Running>,
    #[cfg(feature = "finished-spans")]
    _finished_spans: Option<crate::finished_spans::Running>,
}

impl Agent {
    /// What the agent is to do; the environment has the last word.
    pub fn builder() -> AgentBuilder {
        AgentBuilder::default()
    }

    /// Starts with what the environment says.
    ///
    /// Errors: none that come from the environment or the machine; see [`AgentBuilder::start`].
    pub fn start() -> Result<Agent, StartError> {
        Self::builder().start()
    }

    /// What could not be done as asked, and what is done instead: each in a sentence, as written to standard error at
    /// the start. Mostly empty.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What became of finished spans so far, in this process.
    #[cfg(feature = "finished-spans")]
    pub fn finished_spans(&self) -> crate::FinishedSpans {
        crate::finished_spans::counts()
    }

    /// The self-profile, if it runs.
    #[cfg(feature = "self-profile")]
    pub fn self_profile(&self) -> Option<&crate::self_profile::Running> {
        self.profile.as_ref()
    }
}

/// What the agent is to do; made by [`Agent::builder`].
///
/// For every `SPANPROF_*` variable of the [environment](crate#environment) the environment wins over what is set here, so
/// that an operator can change it without a rebuild. For the resource, what is set here wins, as in OpenTelemetry's SDKs.
#[derive(Clone, Debug, Default)]
pub struct AgentBuilder {
    service_name: Option<String>,
    resource: Vec<(String, String)>,
    settings: Settings,
}

impl AgentBuilder {
    /// The service's name.
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

    /// A resource attribute, such as `deployment.environment.name`.
    #[must_use]
    pub fn resource_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource.push((name.into(), value.into()));
        self
    }

    /// Starts: publishes the process context, follows the application's spans and, where a destination is set, profiles
    /// the process and tells its finished spans.
    ///
    /// Call it once, early. Spans that are active already are published from their next enter on. A second call publishes
    /// the process context anew.
    ///
    /// Errors: a value set by hand that can't be meant, such as a rate of 0. A wrong variable of the environment, or a
    /// machine that forbids something, is no error: it is written to standard error in one line, noted
    /// ([`Agent::notes`]), and the service goes on without.
    pub fn start(self) -> Result<Agent, StartError> {
        let mut notes = Vec::new();
        let environment = |name: &str| std::env::var_os(name);
        self.settings.check()?;
        let settings = self.settings.overridden_by(&Source::new(&environment), &mut notes);
        let mut agent = Agent {
            notes,
            #[cfg(feature = "self-profile")]
            profile: None,
            #[cfg(feature = "finished-spans")]
            _finished_spans: None,
        };
        if settings.enabled() {
            let own_id = resource::own_instance_id();
            let resource =
                resource::compose(self.service_name, self.resource, &own_id, environment, &mut agent.notes);
            publish(&resource, &own_id, &mut agent.notes);
            #[cfg(feature = "finished-spans")]
            if let Some(socket) = &settings.local_agent {
                let service = resource::service_name(&resource);
                agent._finished_spans =
                    crate::finished_spans::Running::start(socket, service, &mut agent.notes);
            }
            #[cfg(feature = "self-profile")]
            if let Some(options) = settings.self_profile() {
                agent.profile = crate::self_profile::Running::start(options, resource, &mut agent.notes);
            }
        }
        // Nobody would take what is recorded.
        #[cfg(feature = "self-profile")]
        crate::await_points::set_recording(agent.profile.is_some());
        for note in &agent.notes {
            // A service whose standard error is closed has nobody to tell.
            let _ = writeln!(std::io::stderr(), "spanprof: {note}");
        }
        Ok(agent)
    }
}

#[cfg(any(feature = "self-profile", feature = "finished-spans"))]
impl AgentBuilder {
    /// Hand over to a local `spanprof attach --receive PATH`: finished spans with the feature `finished-spans`, and with
    /// `self-profile` profiles of this process, which it ships.
    #[must_use]
    pub fn local_agent(mut self, socket: impl Into<std::path::PathBuf>) -> Self {
        self.settings.local_agent = Some(socket.into());
        self
    }
}

#[cfg(feature = "self-profile")]
impl AgentBuilder {
    /// Profile this process and push to a Pyroscope server, such as `http://localhost:4040`.
    #[must_use]
    pub fn pyroscope(mut self, url: impl Into<String>) -> Self {
        self.settings.pyroscope = Some(url.into());
        self
    }

    /// Profile this process and send OTLP profiles (`v1development`, HTTP) to a collector, such as
    /// `http://localhost:4318`.
    #[must_use]
    pub fn otlp_profiles(mut self, url: impl Into<String>) -> Self {
        self.settings.otlp_profiles = Some(url.into());
        self
    }

    /// Profile this process and keep the newest profiles in a folder, as pprof files.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<std::path::PathBuf>) -> Self {
        self.settings.directory = Some(directory.into());
        self
    }

    /// Samples per second of CPU time and visits per second to a blocked thread, 1 to 1,000. 99 unless set.
    #[must_use]
    pub fn frequency(mut self, hertz: u32) -> Self {
        self.settings.hertz = Some(hertz);
        self
    }

    /// Whether blocked threads are visited, so that the profile says where they wait. Set unless unset.
    #[must_use]
    pub fn off_cpu(mut self, visit: bool) -> Self {
        self.settings.off_cpu = Some(visit);
        self
    }

    /// How much time one profile covers, from a second to ten minutes. 15 s unless set: most of a profile's cost is reading
    /// names, once per profile.
    #[must_use]
    pub fn window(mut self, window: std::time::Duration) -> Self {
        self.settings.window = Some(window);
        self
    }
}

fn publish(resource: &[(String, String)], own_id: &str, notes: &mut Vec<String>) {
    let resource =
        resource.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    let context = ProcessContext { resource, attributes: Vec::new() };
    if let Err(error) = process::publish_across_forks(&context, own_id) {
        notes.push(format!("profilers outside can't know this service: {error}"));
    }
    #[cfg(feature = "opentelemetry")]
    if !crate::observer::install() {
        notes.push(
            "profiles carry no spans of OpenTelemetry: its context observer is taken, so another library that \
             publishes spans was installed first; keep one of the two"
                .to_owned(),
        );
    }
    if !spanprof_context::thread::owns_standard_symbol() {
        notes.push(
            "another library in this program defines otel_thread_ctx_v1; readers that go by the symbol see its records"
                .to_owned(),
        );
    }
}
