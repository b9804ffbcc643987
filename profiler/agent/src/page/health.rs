//! How the agent is: what it profiles and by what, what it lost, what it costs, and what its destinations took.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use spanprof_exporter::page::{Loss, LossAmount};

use super::archive::now_milliseconds;
use crate::summary::{AgentCost, Backend, Summary, Target};

/// Processes that are told of.
const MOST_TARGETS: usize = 1_000;

/// What became of windows that were handed to one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SinkState {
    /// What a person calls it.
    pub(crate) name: String,
    /// Windows that arrived.
    pub(crate) arrived: u64,
    /// Windows that did not, and never will.
    pub(crate) lost: u64,
}

/// What is told of the agent; the capture sets it, and never waits for who reads it.
#[derive(Debug)]
pub(crate) struct Health {
    /// Since when an agent runs, in milliseconds since the Unix epoch; none where another one made what is shown.
    since_ms: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    backend: Backend,
    /// None where nobody said what they are.
    targets: Option<Vec<Target>>,
    /// What another agent said that it cost.
    recorded_cost: Option<AgentCost>,
    losses: Vec<Loss>,
    sinks: Vec<SinkState>,
    /// When a window ended and what had been used by then, twice: what lies between is the present cost.
    readings: [(Instant, u64); 2],
}

impl Health {
    /// Of an agent that begins now.
    pub(crate) fn of_this_agent() -> Health {
        Health { since_ms: Some(now_milliseconds()), state: Mutex::new(State::new()) }
    }

    /// Of one that made a recording, as far as it said.
    pub(crate) fn of_a_recording(summary: Option<&Summary>, losses: Vec<Loss>) -> Health {
        let state = State {
            backend: summary.map(|summary| summary.backend.clone()).unwrap_or_default(),
            targets: summary.map(|summary| first_of(&summary.targets)),
            recorded_cost: summary.map(|summary| summary.agent.clone()),
            losses,
            ..State::new()
        };
        Health { since_ms: None, state: Mutex::new(state) }
    }

    /// Sets what a window's end has told.
    pub(crate) fn window_ended(&self, summary: &Summary) {
        let mut state = self.locked();
        state.backend = summary.backend.clone();
        state.targets = Some(first_of(&summary.targets));
        state.readings = [state.readings[1], (Instant::now(), AgentCost::now().cpu_ns)];
    }

    /// Sets what was lost up to now, and what the destinations took.
    pub(crate) fn shipped(&self, losses: Vec<Loss>, sinks: Vec<SinkState>) {
        let mut state = self.locked();
        (state.losses, state.sinks) = (losses, sinks);
    }

    /// In the words of the page.
    pub(super) fn json(&self) -> Value {
        let state = self.locked();
        let has_backend = !state.backend.name.is_empty();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": now_milliseconds(),
            "since": self.since_ms,
            "backend": has_backend.then(|| json!({"name": state.backend.name, "why": state.backend.why})),
            "losses": state.losses.iter().map(loss_json).collect::<Vec<_>>(),
            "cost": self.since_ms.map_or_else(|| state.recorded_cost(), |_| Some(state.present_cost())),
            "targets": state.targets.as_ref().map(|targets| targets.iter().map(target_json).collect::<Vec<_>>()),
            "sinks": state.sinks.iter().map(sink_json).collect::<Vec<_>>(),
        })
    }

    /// By what windows are made, in words; empty where that is not known.
    pub(super) fn source(&self) -> String {
        match self.locked().backend.name.as_str() {
            "" => String::new(),
            name => format!("by {name}, spanprof {}", env!("CARGO_PKG_VERSION")),
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Each part is set whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new() -> State {
        let now = (Instant::now(), AgentCost::now().cpu_ns);
        State {
            backend: Backend::default(),
            targets: None,
            recorded_cost: None,
            losses: Vec::new(),
            sinks: Vec::new(),
            readings: [now, now],
        }
    }

    fn present_cost(&self) -> Value {
        let cpu_ns = AgentCost::now().cpu_ns;
        let (when, before) = self.readings[0];
        let share = cpu_ns.saturating_sub(before) as f64 / when.elapsed().as_nanos().max(1) as f64;
        json!({
            "cpu_seconds": cpu_ns as f64 / 1e9,
            "share_of_one_cpu": share,
            "resident_bytes": resident_bytes(),
        })
    }

    fn recorded_cost(&self) -> Option<Value> {
        let cost = self.recorded_cost.as_ref()?;
        Some(json!({
            "cpu_seconds": cost.cpu_ns as f64 / 1e9,
            "share_of_one_cpu": null,
            "resident_bytes": cost.peak_resident_bytes,
        }))
    }
}

fn first_of(targets: &[Target]) -> Vec<Target> {
    targets.iter().take(MOST_TARGETS).cloned().collect()
}

fn loss_json(loss: &Loss) -> Value {
    let (amount, unit) = match loss.amount {
        LossAmount::Count(count) => (count, "count"),
        LossAmount::Nanoseconds(nanoseconds) => (nanoseconds, "nanoseconds"),
    };
    json!({"cause": loss.cause, "amount": amount, "unit": unit})
}

fn target_json(target: &Target) -> Value {
    json!({
        "pid": target.pid, "service": target.service, "executable": target.executable,
        "threads": target.threads, "publishes_context": target.publishes_context,
    })
}

fn sink_json(sink: &SinkState) -> Value {
    json!({"name": sink.name, "arrived": sink.arrived, "lost": sink.lost})
}

/// What of our memory is resident, in bytes; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.saturating_mul(u64::try_from(page).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_it_was_told() {
        let health = Health::of_this_agent();
        assert_eq!((health.source(), &health.json()["backend"]), (String::new(), &json!(null)));
        let target = Target { pid: 7, service: "orders".into(), ..Target::default() };
        let backend = Backend { name: "bpf".into(), why: "it is allowed".into() };
        health.window_ended(&Summary { backend, targets: vec![target], ..Summary::default() });
        let loss = Loss { cause: "on CPU have no place".into(), amount: LossAmount::Nanoseconds(9) };
        health.shipped(vec![loss], vec![SinkState { name: "there".into(), arrived: 3, lost: 1 }]);
        let json = health.json();
        assert_eq!(json["backend"], json!({"name": "bpf", "why": "it is allowed"}));
        assert_eq!(
            json["losses"],
            json!([{"cause": "on CPU have no place", "amount": 9, "unit": "nanoseconds"}])
        );
        assert_eq!(json["sinks"], json!([{"name": "there", "arrived": 3, "lost": 1}]));
        assert_eq!(
            (&json["targets"][0]["pid"], &json["targets"][0]["service"]),
            (&json!(7), &json!("orders"))
        );
        assert!(json["cost"]["resident_bytes"].as_u64().unwrap() > 100_000, "{json}");
        assert!(json["cost"]["share_of_one_cpu"].as_f64().unwrap() >= 0.0, "{json}");
        assert!(health.source().starts_with("by bpf"));
    }

    #[test]
    fn a_recording_is_told_of_as_far_as_it_says() {
        let json = Health::of_a_recording(None, Vec::new()).json();
        for unknown in ["since", "backend", "cost", "targets"] {
            assert_eq!(json[unknown], json!(null), "{unknown}");
        }
        let agent = AgentCost { cpu_ns: 2_000_000_000, peak_resident_bytes: 7 };
        let json = Health::of_a_recording(Some(&Summary { agent, ..Summary::default() }), Vec::new()).json();
        let cost = json!({"cpu_seconds": 2.0, "share_of_one_cpu": null, "resident_bytes": 7});
        assert_eq!((&json["cost"], &json["targets"]), (&cost, &json!([])));
    }
}
