//! What stands in for the self-profile on machines that it doesn't know.

use crate::settings::Settings;

/// The running self-profile. There is none on this machine.
#[derive(Debug)]
pub struct Running {
    never: std::convert::Infallible,
}

impl Running {
    pub(crate) fn start(_: Settings, _: Vec<(String, String)>, notes: &mut Vec<String>) -> Option<Running> {
        notes.push(
            "this process is not profiled from inside: the self-profile knows x86-64 only; attach `spanprof` or another \
             profiler from outside"
                .to_owned(),
        );
        None
    }

    /// How samples come about, and what is biased, each in a sentence.
    pub fn methods(&self) -> &[String] {
        match self.never {}
    }
}

#[inline]
pub(crate) fn on_change() {}
