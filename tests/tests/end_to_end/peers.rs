//! Whom threads waited for on sockets, where they know.

use spanprof_exporter::SampleKind;

use crate::capturing::{capture, in_full, turn};
use crate::samples::samples;
use crate::truth::{Truth, list, number, text};

#[test]
fn a_wait_on_a_socket_tells_the_service_at_its_other_end() {
    let Some(_turn) = turn("a_wait_on_a_socket_tells_the_service_at_its_other_end") else { return };
    let truth = Truth::start(env!("CARGO_BIN_EXE_truth_peers"), 3, &[]);
    let (told, window) = capture(&in_full(99), truth);
    let all = samples(&window.profile);
    for client in list(&told["clients"]) {
        let id = text(&client["span_id"]);
        let own = || {
            let blocked = all.iter().filter(|sample| sample.kind == SampleKind::OffCpu);
            blocked.filter(|sample| sample.span() == Some(id))
        };
        let whole: u64 = own().map(|sample| sample.nanoseconds).sum();
        let mut of_peers = 0;
        for (peer, waited) in list(&client["peers"]).iter().zip(list(&client["waited_ns"])) {
            let peer = text(peer);
            let seen: u64 =
                own().filter(|sample| sample.peer() == Some(peer)).map(|sample| sample.nanoseconds).sum();
            let waited = number(waited);
            eprintln!("{peer}: {seen} ns of {waited} ns");
            // The run queue, and the calls around the wait, are the client's own time.
            assert!(seen <= waited && seen as f64 >= 0.9 * waited as f64, "{peer}: {seen} of {waited} ns");
            of_peers += seen;
        }
        assert!(of_peers as f64 >= 0.98 * whole as f64, "{of_peers} of {whole} ns: {client}");
    }
}
