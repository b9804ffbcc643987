//! What the service is profiled by, each as its own documents say.

const HERTZ: i32 = 99;

/// The running profiler.
pub(crate) struct Profiler {
    #[cfg(feature = "publishing")]
    agent: spanprof::Agent,
    #[cfg(feature = "pprof")]
    guard: pprof::ProfilerGuard<'static>,
    #[cfg(feature = "pyroscope")]
    agent: pyroscope::PyroscopeAgent<pyroscope::pyroscope::PyroscopeAgentRunning>,
}

#[cfg(not(any(feature = "publishing", feature = "pprof", feature = "pyroscope")))]
pub(crate) fn start() -> Profiler {
    let _ = HERTZ;
    Profiler {}
}

#[cfg(feature = "publishing")]
pub(crate) fn start() -> Profiler {
    let builder = spanprof::Agent::builder().service_name("bench");
    #[cfg(feature = "self-profile")]
    let builder = builder.frequency(HERTZ as u32).pyroscope(crate::stand_in::start());
    let _ = HERTZ;
    Profiler { agent: builder.start().expect("nothing wrong was set") }
}

#[cfg(feature = "pprof")]
pub(crate) fn start() -> Profiler {
    let guard = pprof::ProfilerGuardBuilder::default().frequency(HERTZ).build().expect("it starts");
    Profiler { guard }
}

#[cfg(feature = "pyroscope")]
pub(crate) fn start() -> Profiler {
    use pyroscope::backend::{BackendConfig, PprofConfig, pprof_backend};
    use pyroscope::pyroscope::PyroscopeAgentBuilder;
    let backend = pprof_backend(PprofConfig { sample_rate: HERTZ as u32 }, BackendConfig::default());
    let url = crate::stand_in::start();
    let agent =
        PyroscopeAgentBuilder::new(url, "bench", HERTZ as u32, "pyroscope-rs", "2.1.5", backend).build();
    Profiler { agent: agent.expect("it can be built").start().expect("it starts") }
}

impl Profiler {
    /// Sends or makes what was gathered, and stops.
    pub(crate) fn finish(self) {
        #[cfg(feature = "publishing")]
        drop(self.agent);
        #[cfg(feature = "pprof")]
        {
            use pprof::protos::Message;
            let report = self.guard.report().build().expect("a report").pprof().expect("a profile");
            std::hint::black_box(report.encode_to_vec());
        }
        #[cfg(feature = "pyroscope")]
        self.agent.stop().expect("it stops").shutdown();
    }
}
