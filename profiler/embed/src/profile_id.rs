//! `pyroscope.profile.id` on spans, so that Grafana offers "Profiles for this span".
