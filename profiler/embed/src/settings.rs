//! What the agent is to do: set by hand, then changed by the environment.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Turns the whole agent off.
const ENABLED: &str = "SPANPROF_ENABLED";
const PYROSCOPE: &str = "SPANPROF_PYROSCOPE";
const OTLP_PROFILES: &str = "SPANPROF_OTLP_PROFILES";
const DIRECTORY: &str = "SPANPROF_DIRECTORY";
const LOCAL_AGENT: &str = "SPANPROF_LOCAL_AGENT";
const SELF_PROFILE: &str = "SPANPROF_SELF_PROFILE";
const HERTZ: &str = "SPANPROF_HZ";
const OFF_CPU: &str = "SPANPROF_OFF_CPU";
const WINDOW: &str = "SPANPROF_WINDOW_SECONDS";

const HERTZ_EXPECTED: &str = "a whole number from 1 to 1000";
const WINDOW_EXPECTED: &str = "from 1 to 600 seconds";
const URL_EXPECTED: &str = "an address such as http://localhost:4040";
const SWITCH_EXPECTED: &str = "true or false";

/// Everything that can be set. `None` is what is usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) enabled: Option<bool>,
    pub(crate) self_profile: Option<bool>,
    pub(crate) pyroscope: Option<String>,
    pub(crate) otlp_profiles: Option<String>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) local_agent: Option<PathBuf>,
    pub(crate) hertz: Option<u32>,
    pub(crate) off_cpu: Option<bool>,
    pub(crate) window: Option<Duration>,
}

/// Where variables come from.
pub(crate) struct Source<'a> {
    read: &'a dyn Fn(&str) -> Option<OsString>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(read: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { read }
    }

    /// A variable's value by `parse`; one that is empty counts as unset, as OpenTelemetry asks, and one that can't be
    /// meant is left out and noted.
    fn get<T>(
        &self,
        name: &str,
        expected: &str,
        notes: &mut Vec<String>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = (self.read)(name).filter(|text| !text.is_empty())?;
        let value = text.to_str().map(str::trim).and_then(parse);
        if value.is_none() {
            notes.push(format!("{name} is {text:?} and was left out: it must be {expected}"));
        }
        value
    }
}

impl Settings {
    /// Whether what was set by hand can be meant.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let error = |setting, value: String, expected| Err(StartError { setting, value, expected });
        match (self.hertz, self.window) {
            (Some(hertz), _) if !is_frequency(hertz) => {
                return error("the frequency", hertz.to_string(), HERTZ_EXPECTED);
            }
            (_, Some(window)) if !is_window(window) => {
                return error("the window", format!("{window:?}"), WINDOW_EXPECTED);
            }
            _ => {}
        }
        for (setting, url) in
            [("the Pyroscope server", &self.pyroscope), ("the collector", &self.otlp_profiles)]
        {
            if let Some(url) = url.as_ref().filter(|url| !is_url(url)) {
                return error(setting, url.clone(), URL_EXPECTED);
            }
        }
        Ok(())
    }

    /// These settings, changed by the environment's.
    pub(crate) fn overridden_by(self, source: &Source<'_>, notes: &mut Vec<String>) -> Settings {
        let url = |text: &str| is_url(text).then(|| text.to_owned());
        let path = |text: &str| Some(PathBuf::from(text));
        let expected_path = "a path in UTF-8";
        let hertz = |text: &str| text.parse().ok().filter(|hertz| is_frequency(*hertz));
        let window = |text: &str| {
            let seconds: f64 = text.parse().ok()?;
            Duration::try_from_secs_f64(seconds).ok().filter(|window| is_window(*window))
        };
        Settings {
            enabled: source.get(ENABLED, SWITCH_EXPECTED, notes, switch).or(self.enabled),
            self_profile: source.get(SELF_PROFILE, SWITCH_EXPECTED, notes, switch).or(self.self_profile),
            pyroscope: source.get(PYROSCOPE, URL_EXPECTED, notes, url).or(self.pyroscope),
            otlp_profiles: source.get(OTLP_PROFILES, URL_EXPECTED, notes, url).or(self.otlp_profiles),
            directory: source.get(DIRECTORY, expected_path, notes, path).or(self.directory),
            local_agent: source.get(LOCAL_AGENT, expected_path, notes, path).or(self.local_agent),
            hertz: source.get(HERTZ, HERTZ_EXPECTED, notes, hertz).or(self.hertz),
            off_cpu: source.get(OFF_CPU, SWITCH_EXPECTED, notes, switch).or(self.off_cpu),
            window: source.get(WINDOW, WINDOW_EXPECTED, notes, window).or(self.window),
        }
        .without_what_is_not_built(notes)
    }

    /// An operator who asks for a profile of a service that was built without it is told so.
    fn without_what_is_not_built(self, notes: &mut Vec<String>) -> Settings {
        let is_of_use = self.is_only_for_spans() && cfg!(feature = "finished-spans");
        if !cfg!(feature = "self-profile") && self.has_destination() && !is_of_use {
            notes.push(
                "this service was built without the self-profile: build it with the feature `self-profile` of the \
                 crate `spanprof`, or attach `spanprof` from outside"
                    .to_owned(),
            );
        }
        self
    }

    /// Whether no more is named than the agent that finished spans are told, too.
    fn is_only_for_spans(&self) -> bool {
        self.pyroscope.is_none() && self.otlp_profiles.is_none() && self.directory.is_none()
    }

    fn has_destination(&self) -> bool {
        self.pyroscope.is_some()
            || self.otlp_profiles.is_some()
            || self.directory.is_some()
            || self.local_agent.is_some()
    }

    /// Whether the agent does anything.
    pub(crate) fn enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// These settings, if this process is to be profiled from inside: where there is somewhere to send profiles.
    #[cfg(feature = "self-profile")]
    pub(crate) fn self_profile(self) -> Option<Settings> {
        (self.has_destination() && self.self_profile.unwrap_or(true)).then_some(self)
    }
}

fn is_frequency(hertz: u32) -> bool {
    (1..=1000).contains(&hertz)
}

fn is_window(window: Duration) -> bool {
    (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&window)
}

/// A first look that needs no library; the sink looks closer.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace))
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" | "yes" => Some(true),
        "false" | "off" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// A value, set by hand, that can't be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartError {
    /// Which setting.
    pub setting: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it has to be.
    pub expected: &'static str,
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is {:?}: it must be {}", self.setting, self.value, self.expected)
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn overridden(settings: Settings, variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let read = |name: &str| {
            variables.iter().find(|(existing, _)| *existing == name).map(|(_, value)| OsString::from(value))
        };
        let mut notes = Vec::new();
        let settings = settings.overridden_by(&Source::new(&read), &mut notes);
        (settings, notes)
    }

    #[test]
    fn the_environment_has_the_last_word() {
        let by_hand = Settings {
            hertz: Some(19),
            pyroscope: Some("http://by-hand:4040".into()),
            off_cpu: Some(true),
            ..Settings::default()
        };
        let variables = [
            ("SPANPROF_PYROSCOPE", "https://operator:4040"),
            ("SPANPROF_OFF_CPU", "Off"),
            ("SPANPROF_WINDOW_SECONDS", "2.5"),
            ("SPANPROF_HZ", ""),
        ];
        let (settings, _) = overridden(by_hand, &variables);
        assert_eq!(settings.pyroscope.as_deref(), Some("https://operator:4040"));
        assert_eq!(settings.off_cpu, Some(false));
        assert_eq!(settings.window, Some(Duration::from_millis(2500)));
        assert_eq!(settings.hertz, Some(19), "an empty variable counts as unset");
        assert!(settings.enabled());
        let off = [("SPANPROF_ENABLED", "false")];
        assert!(!overridden(Settings::default(), &off).0.enabled());
    }

    #[test]
    fn a_wrong_variable_is_one_clear_line_and_changes_nothing() {
        for (name, value) in [
            ("SPANPROF_ENABLED", "maybe"),
            ("SPANPROF_HZ", "0"),
            ("SPANPROF_HZ", "1001"),
            ("SPANPROF_HZ", "fast"),
            ("SPANPROF_WINDOW_SECONDS", "0.5"),
            ("SPANPROF_WINDOW_SECONDS", "-1"),
            ("SPANPROF_WINDOW_SECONDS", "nan"),
            ("SPANPROF_PYROSCOPE", "localhost:4040"),
            ("SPANPROF_OTLP_PROFILES", "http://"),
            ("SPANPROF_SELF_PROFILE", "2"),
        ] {
            let (settings, notes) = overridden(Settings::default(), &[(name, value)]);
            assert_eq!(settings, Settings::default(), "{name}={value}");
            assert_eq!(notes.len(), 1, "{name}={value}: {notes:?}");
            assert!(notes[0].contains(name) && notes[0].contains(value) && !notes[0].contains('\n'));
        }
    }

    #[test]
    fn a_wrong_value_by_hand_is_an_error() {
        let wrong = [
            Settings { hertz: Some(0), ..Settings::default() },
            Settings { window: Some(Duration::from_secs(601)), ..Settings::default() },
            Settings { pyroscope: Some("nowhere".into()), ..Settings::default() },
            Settings { otlp_profiles: Some("http:// x".into()), ..Settings::default() },
        ];
        for settings in wrong {
            assert!(settings.check().is_err(), "{settings:?}");
        }
        assert!(Settings { hertz: Some(1000), ..Settings::default() }.check().is_ok());
    }

    #[test]
    #[cfg(feature = "self-profile")]
    fn a_destination_turns_the_self_profile_on_and_a_switch_off() {
        assert_eq!(Settings::default().self_profile(), None);
        let directory = [("SPANPROF_DIRECTORY", "profiles")];
        assert!(overridden(Settings::default(), &directory).0.self_profile().is_some());
        let off = [("SPANPROF_DIRECTORY", "profiles"), ("SPANPROF_SELF_PROFILE", "off")];
        assert!(overridden(Settings::default(), &off).0.self_profile().is_none());
    }

    #[test]
    #[cfg(not(feature = "self-profile"))]
    fn who_asks_for_what_is_not_built_is_told_so() {
        let (_, notes) = overridden(Settings::default(), &[("SPANPROF_PYROSCOPE", "http://localhost:4040")]);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("self-profile"));
        let (_, notes) = overridden(Settings::default(), &[("SPANPROF_LOCAL_AGENT", "agent.sock")]);
        assert_eq!(notes.is_empty(), cfg!(feature = "finished-spans"), "{notes:?}");
    }
}
