//! Servers that are away, or refuse, or have no room: the capture goes on, and what was lost is told.

use spanprof_exporter::stand_in::{Answer, StandIn, StandInConfig};

use crate::capturing::turn;
use crate::program::Program;
use crate::truth::Truth;

#[test]
fn whatever_a_server_answers_attach_goes_on_and_tells() {
    let Some(_turn) = turn("whatever_a_server_answers_attach_goes_on_and_tells") else { return };
    let always =
        |answer| StandIn::start(StandInConfig { always: Some(answer), ..StandInConfig::default() }).unwrap();
    let refusing = always(Answer::Status(400, "this here takes nothing".into()));
    let limiting = always(Answer::RateLimited);
    let unavailable = always(Answer::Status(503, "no server is behind this".into()));
    let nobody = {
        // A port that was just free.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let recovering = StandIn::start(StandInConfig {
        script: vec![Answer::Status(503, "starting".into()), Answer::RateLimited, Answer::Close],
        ..StandInConfig::default()
    })
    .unwrap();
    let mut truth = Truth::start(env!("CARGO_BIN_EXE_truth_offcpu"), 600, &["--no-rivals"]);
    truth.begin();
    let pid = truth.pid().to_string();
    // All at once, since each is tried for as long as a restart of a server takes.
    let cases = [
        (refusing.url(), Some("this here takes nothing")),
        (limiting.url(), Some("rate limit")),
        (unavailable.url(), Some("no server is behind this")),
        (nobody, Some("the server was not there")),
        (recovering.url(), None),
    ];
    let mut attached: Vec<(Program, Option<&str>)> = cases
        .into_iter()
        .map(|(url, words)| {
            (Program::start(["attach", "--pid", &pid, "--window", "1", "--pyroscope", &url]), words)
        })
        .collect();
    for (program, _) in &mut attached {
        program.wait_for("attached to 1 process");
    }
    for server in [&refusing, &limiting, &unavailable] {
        assert!(server.wait_for_requests(1, std::time::Duration::from_secs(120)), "no push came");
    }
    assert!(recovering.wait_for_requests(4, std::time::Duration::from_secs(120)), "no push was tried again");
    for (program, _) in &attached {
        program.signal(libc::SIGTERM);
    }
    for (program, words) in attached {
        let finished = program.finish();
        assert_eq!(finished.status.code(), Some(0), "{finished:?}");
        match words {
            Some(words) => {
                assert!(finished.errors.contains(words), "{words:?} is missing: {}", finished.errors);
                assert!(finished.errors.contains(" lost ("), "{}", finished.errors);
            }
            None => assert!(!finished.errors.contains(" lost ("), "{}", finished.errors),
        }
    }
    assert!(!recovering.profiles().is_empty());
    assert!(refusing.profiles().is_empty());
    truth.signal(libc::SIGTERM);
    assert_eq!(truth.wait()["program"], "truth_offcpu", "the target never notices");
}
