//! The profile of one's own process, without privileges.

use crate::settings::Settings;

/// The running self-profile.
#[derive(Debug)]
pub struct Running {}

impl Running {
    pub(crate) fn start(
        _settings: Settings,
        _resource: Vec<(String, String)>,
        _notes: &mut Vec<String>,
    ) -> Option<Running> {
        None
    }
}

/// What the calling thread publishes has changed.
#[inline]
pub(crate) fn on_change() {}
