//! One picture of the terminal, a pure function of what was captured and chosen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState, Wrap};
use spanprof_exporter::SampleKind;
use spanprof_exporter::analysis::Times;

use super::terminal::Key;
use super::view::{DestinationRow, MessageRow, View};
use crate::cli::stdout;
use crate::cli::table::{self, printable};
use crate::cli::units::{count, counted, nanoseconds};

/// What is chosen.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Whether the list of messages has the keys, rather than the destinations.
    on_messages: bool,
    row: usize,
    /// The message that is open, as it was when it was opened: it may leave the list meanwhile.
    open: Option<MessageRow>,
    held: bool,
}

impl Cursor {
    /// Whether the picture stays as it is.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: Key, view: &View) {
        match key {
            Key::Up => self.row = self.row.saturating_sub(1),
            Key::Down => self.row += 1,
            Key::Other => (self.on_messages, self.row) = (!self.on_messages, 0),
            Key::Open if self.on_messages => self.open = view.messages.get(self.row).cloned(),
            // From a destination one gets to the messages.
            Key::Open => (self.on_messages, self.row) = (true, 0),
            Key::Back if self.open.is_none() => (self.on_messages, self.row) = (false, 0),
            Key::Back => self.open = None,
            Key::Hold => self.held = !self.held,
            Key::End | Key::Resized => {}
        }
        self.keep_within(view);
    }

    fn keep_within(&mut self, view: &View) {
        let rows = if self.on_messages { view.messages.len() } else { view.destinations.len() };
        self.row = self.row.min(rows.saturating_sub(1));
    }
}

/// The colours of the page, as terminals have them.
const KINDS: [(SampleKind, Color, &str); 6] = [
    (SampleKind::Cpu, Color::Yellow, "cpu"),
    (SampleKind::OffCpu, Color::Blue, "off_cpu"),
    (SampleKind::RunQueue, Color::Magenta, "run_queue"),
    (SampleKind::Suspended, Color::Cyan, "suspended"),
    (SampleKind::Ready, Color::Green, "ready"),
    (SampleKind::Unknown, Color::DarkGray, "unknown"),
];

/// Draws one picture.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, cursor: &mut Cursor) {
    cursor.keep_within(view);
    let rows = u16::try_from(view.destinations.len()).unwrap_or(u16::MAX).clamp(1, 8);
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(rows + 2),
        Constraint::Min(4),
        Constraint::Length(1),
    ]);
    let [head, destinations, messages, foot] = areas.areas(frame.area());
    frame.render_widget(heading(view, cursor), head);
    match &cursor.open {
        Some(message) => one_message(frame, view, message, destinations.union(messages)),
        None => {
            destination_table(frame, view, cursor, destinations);
            message_table(frame, view, cursor, messages);
        }
    }
    let keys = match &cursor.open {
        Some(_) => "Esc back   Space hold   q end",
        None => "Tab other table   ↑↓ choose   Enter one message   Space hold   q end",
    };
    frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)), foot);
}

fn heading(view: &View, cursor: &Cursor) -> Paragraph<'static> {
    let held = if cursor.held { " · held" } else { "" };
    let services = match view.services.is_empty() {
        true => counted(view.processes as u64, "process", "processes"),
        false => view.services.join(", "),
    };
    let first = Line::from(vec![
        Span::styled("spanprof", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  {}  last {:.0} s{held}", printable(&services), view.seconds)),
    ]);
    let legend = KINDS[..3].iter().flat_map(|(_, colour, name)| {
        [Span::styled("■ ", Style::new().fg(*colour)), Span::raw(format!("{name}  "))]
    });
    let second = Line::from(legend.chain([Span::raw(printable(&view.losses))]).collect::<Vec<_>>());
    Paragraph::new(vec![first, second])
}

/// How wide the bar of kinds is.
const BAR: usize = 16;

/// The kinds as a bar of so many characters; each that has a share gets one at least as far as there is room.
fn bar(times: &Times) -> Line<'static> {
    let whole = times.total_ns().max(1) as f64;
    let mut spans = Vec::new();
    let (mut sum, mut drawn) = (0.0, 0);
    for (kind, colour, _) in KINDS {
        sum += times.of(kind) as f64;
        let until = (sum / whole * BAR as f64).round() as usize;
        if until > drawn {
            spans.push(Span::styled("█".repeat(until - drawn), Style::new().fg(colour)));
            drawn = until;
        }
    }
    Line::from(spans)
}

/// The largest two kinds in words: colours alone tell nothing in a log or to whoever can't see them.
fn in_words(times: &Times) -> String {
    let whole = times.total_ns().max(1) as f64;
    let mut parts: Vec<(u64, &str)> = KINDS.iter().map(|(kind, _, name)| (times.of(*kind), *name)).collect();
    parts.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let words = parts.iter().take(2).filter(|(time, _)| *time > 0);
    words
        .map(|(time, name)| format!("{name} {:.0} %", 100.0 * *time as f64 / whole))
        .collect::<Vec<_>>()
        .join(", ")
}

fn block(title: &'static str, is_active: bool) -> Block<'static> {
    let style = if is_active {
        Style::new().add_modifier(Modifier::BOLD)
    } else {
        Style::new().add_modifier(Modifier::DIM)
    };
    Block::new().borders(Borders::TOP).title(title).border_style(style)
}

fn chosen(row: usize, is_active: bool) -> TableState {
    TableState::new().with_selected(is_active.then_some(row))
}

fn destination_table(frame: &mut Frame<'_>, view: &View, cursor: &Cursor, area: Rect) {
    let row = |row: &DestinationRow| {
        Row::new([
            Cell::from(printable(&row.name)),
            Cell::from(printable(&row.about)),
            Cell::from(Line::from(count(row.spans as u64)).right_aligned()),
            Cell::from(Line::from(nanoseconds(row.times.total_ns())).right_aligned()),
            Cell::from(bar(&row.times)),
            Cell::from(in_words(&row.times)),
        ])
    };
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(BAR as u16),
        Constraint::Length(28),
    ];
    let is_active = !cursor.on_messages;
    if view.destinations.is_empty() {
        let words = match view.seconds > 0.0 {
            true => "no message was seen in the last while: no thread published a span with a destination",
            false => "the first picture comes in a moment",
        };
        frame.render_widget(Paragraph::new(words).block(block("destinations", is_active)), area);
        return;
    }
    let table = Table::new(view.destinations.iter().map(row), widths)
        .header(
            Row::new([
                "destination",
                "operation, group, service",
                "spans",
                "seen",
                "",
                "where its time went",
            ])
            .style(Style::new().add_modifier(Modifier::DIM)),
        )
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(block("destinations", is_active));
    frame.render_stateful_widget(table, area, &mut chosen(cursor.row, is_active));
}

fn message_table(frame: &mut Frame<'_>, view: &View, cursor: &Cursor, area: Rect) {
    let row = |row: &MessageRow| {
        let style = match row.kept.as_str() {
            "failed" => Style::new().fg(Color::Red),
            _ => Style::new(),
        };
        Row::new([
            Cell::from(printable(&row.span_id)),
            Cell::from(printable(&row.name)),
            Cell::from(row.kept.clone()).style(style),
            Cell::from(Line::from(nanoseconds(row.took_ns)).right_aligned()),
            Cell::from(bar(&row.times)),
            Cell::from(row.wait),
            Cell::from(printable(&row.cause)),
        ])
    };
    let widths = [
        Constraint::Length(16),
        Constraint::Fill(1),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(BAR as u16),
        Constraint::Length(12),
        Constraint::Fill(2),
    ];
    let is_active = cursor.on_messages;
    let table = Table::new(view.messages.iter().map(row), widths)
        .header(
            Row::new(["message", "name", "", "took", "", "wait", "main cause"])
                .style(Style::new().add_modifier(Modifier::DIM)),
        )
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(block("slow messages", is_active));
    frame.render_stateful_widget(table, area, &mut chosen(cursor.row, is_active));
}

fn one_message(frame: &mut Frame<'_>, view: &View, message: &MessageRow, area: Rect) {
    let mut lines = vec![
        Line::from(vec![
            Span::styled(printable(&message.name), Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(format!("  {}  {}", nanoseconds(message.took_ns), message.kept)),
        ]),
        Line::from(printable(&message.about)),
        Line::from(format!("span {}  trace {}", printable(&message.span_id), printable(&message.trace_id))),
        Line::from(""),
    ];
    let mut sums = bar(&message.times).spans;
    for (kind, _, name) in KINDS.iter().filter(|(kind, ..)| message.times.of(*kind) > 0) {
        sums.push(Span::raw(format!("  {name} {}", nanoseconds(message.times.of(*kind)))));
    }
    lines.push(Line::from(sums));
    lines.push(Line::from(printable(&message.cause)));
    for (hop, link) in message.woken_by.iter().enumerate() {
        let who = if hop == 0 { "woken by" } else { "who waited for" };
        lines.push(Line::from(format!(
            "{who} {}, {}",
            printable(&link.words()),
            nanoseconds(link.nanoseconds)
        )));
    }
    lines.push(Line::from(""));
    for function in view.functions(message) {
        let total = function.total.total_ns();
        let wait = function.main_wait.map_or("", |wait| wait.as_str());
        lines.push(Line::from(format!(
            "{:>10}  {:<11} {}",
            nanoseconds(total),
            wait,
            printable(&function.function)
        )));
    }
    frame.render_widget(
        Paragraph::new(lines).wrap(Wrap { trim: false }).block(block("one message", true)),
        area,
    );
}

/// The same as text, for pipes.
pub(super) fn as_text(view: &View) -> String {
    let mut destinations =
        table::Table::new(&["DESTINATION", "~ABOUT", ">SPANS", ">SEEN", "WAIT", "|MAIN CAUSE"]);
    for row in &view.destinations {
        let cells = [
            row.name.clone(),
            row.about.clone(),
            count(row.spans as u64),
            nanoseconds(row.times.total_ns()),
            row.wait.into(),
            format!("{}; {}", in_words(&row.times), row.cause),
        ];
        destinations.row(cells);
    }
    let mut messages = table::Table::new(&["MESSAGE", "~NAME", "KEPT", ">TOOK", "WAIT", "|MAIN CAUSE"]);
    for row in view.messages.iter().take(20) {
        let cells = [
            row.span_id.clone(),
            row.name.clone(),
            row.kept.clone(),
            nanoseconds(row.took_ns),
            row.wait.into(),
            row.cause.clone(),
        ];
        messages.row(cells);
    }
    let width = stdout::width();
    if view.messages.is_empty() && view.destinations.is_empty() {
        return "no message was seen: no thread published a span meanwhile\n".into();
    }
    format!("{}\n{}", destinations.render_within(width), messages.render_within(width))
}

#[cfg(test)]
mod tests;
