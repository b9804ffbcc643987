use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use spanprof_exporter::{Label, Location, Profile, SampleKey, label};
use spanprof_symbolizer::{Frame as Function, FrameKind};

use super::super::view::History;
use super::*;
use crate::recorder::Window;
use crate::summary::Summary;

/// Two messages of one destination: one waited for a lock and is slow, one ran.
fn window(topic: &str) -> Window {
    let mut profile = Profile::default();
    profile.duration_nanoseconds = 2_000_000_000;
    for (span, kept, function, kind, nanoseconds) in [
        ("00000000000000a1", Some("slow"), "std::sync::Mutex::lock", SampleKind::OffCpu, 430_000_000),
        ("00000000000000a2", None, "orders::parse", SampleKind::Cpu, 900_000_000),
    ] {
        let frames = |name: &str| Function {
            function: name.into(),
            system_name: name.into(),
            file: None,
            line: 0,
            kind: FrameKind::Rust,
        };
        let locations = [function, "orders::reserve"].map(|name| {
            profile.intern_location(Location { module: None, address: 0, frames: vec![frames(name)] })
        });
        let stack = profile.intern_stack(locations.to_vec());
        let mut labels = vec![
            Label::text(label::SPAN_ID, span),
            Label::text(label::TRACE_ID, "0af7651916cd43dd8448eb211c80319c"),
            Label::text(label::SPAN_NAME, "process"),
            Label::text(label::DESTINATION, topic),
            Label::text(label::CONSUMER_GROUP, "billing"),
        ];
        labels.extend(kept.map(|kept| Label::text(label::KEPT, kept)));
        let labels = profile.intern_labels(labels);
        profile.add(SampleKey { stack, labels, kind }, nanoseconds, 1);
    }
    Window { profile, summary: Summary::default() }
}

fn view(topic: &str) -> View {
    let mut history = History::new(Duration::from_secs(60));
    history.add(window(topic));
    View::of(&history)
}

fn picture(width: u16, height: u16, view: &View, cursor: &mut Cursor) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
    terminal.draw(|frame| draw(frame, view, cursor)).expect("a picture");
    terminal.backend().to_string()
}

#[test]
fn destinations_stand_above_slow_messages_and_the_slow_one_comes_first() {
    let view = view("orders");
    let picture = picture(120, 24, &view, &mut Cursor::default());
    let place = |words: &str| picture.find(words).unwrap_or_else(|| panic!("{words} is not in\n{picture}"));
    assert!(place("orders") < place("slow messages"));
    assert!(place("00000000000000a1") < place("00000000000000a2"), "slow before long");
    for words in
        ["billing", "430.0 ms", "lock", "waiting for a lock in orders::reserve", "cpu 68 %, off_cpu 32 %"]
    {
        place(words);
    }
}

#[test]
fn keys_lead_to_one_message_and_back() {
    let view = view("orders");
    let mut cursor = Cursor::default();
    for key in [Key::Open, Key::Open] {
        cursor.press(key, &view);
    }
    let one = picture(100, 24, &view, &mut cursor);
    assert!(
        one.contains("one message") && one.contains("off_cpu 430.0 ms") && one.contains("orders::reserve"),
        "{one}"
    );
    assert!(!one.contains("00000000000000a2"), "{one}");
    cursor.press(Key::Back, &view);
    for _ in 0..5 {
        cursor.press(Key::Down, &view);
    }
    assert_eq!(cursor.row, 1, "the last row");
    cursor.press(Key::Hold, &view);
    assert!(cursor.is_held() && picture(100, 24, &view, &mut cursor).contains("held"));
    // The list may become shorter under the cursor.
    let empty = View::of(&History::new(Duration::from_secs(1)));
    assert!(picture(100, 24, &empty, &mut cursor).contains("comes in a moment"));
    assert_eq!(cursor.row, 0);
}

#[test]
fn hostile_names_and_small_terminals_do_no_harm() {
    let view = view(&format!("\x1b[2J\u{202e}{}", "x".repeat(70_000)));
    for (width, height) in [(1, 1), (10, 3), (80, 24), (300, 100)] {
        let mut cursor = Cursor::default();
        let tables = picture(width, height, &view, &mut cursor);
        assert!(!tables.contains('\x1b'), "{width}×{height}");
        cursor.press(Key::Other, &view);
        cursor.press(Key::Open, &view);
        picture(width, height, &view, &mut cursor);
    }
    assert!(!as_text(&view).contains('\x1b'));
}

#[test]
fn the_text_has_both_tables() {
    let text = as_text(&view("orders"));
    assert!(
        text.starts_with("DESTINATION") && text.contains("MESSAGE") && text.contains("00000000000000a1"),
        "{text}"
    );
    assert!(as_text(&View::of(&History::new(Duration::from_secs(1)))).contains("no message was seen"));
}

#[test]
fn old_windows_go() {
    let mut history = History::new(Duration::from_secs(6));
    for number in 0..10 {
        history.add(window(&format!("topic-{number}")));
    }
    let view = View::of(&history);
    assert_eq!(view.destinations.len(), 3, "six seconds are three windows");
    assert!((view.seconds - 6.0).abs() < 1e-9);
}
