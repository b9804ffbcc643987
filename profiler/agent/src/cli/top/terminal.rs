//! The terminal: raw while we draw on it, as it was when we leave, also by a panic.

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::screen::{self, Cursor};
use super::view::View;

/// What a person asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// The row above.
    Up,
    /// The row below.
    Down,
    /// The other table.
    Other,
    /// The message that is chosen.
    Open,
    /// Back to the tables.
    Back,
    /// Hold the picture, or let it go on.
    Hold,
    /// Leave.
    End,
    /// Nothing but a picture of another size.
    Resized,
}

/// A terminal that is drawn on; dropped, it is as it was.
pub(super) struct Terminal {
    terminal: DefaultTerminal,
}

impl Terminal {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When there is none, or it can't be set.
    pub(super) fn start() -> io::Result<Terminal> {
        Ok(Terminal { terminal: ratatui::try_init()? })
    }

    /// Draws one picture.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn draw(&mut self, view: &View, cursor: &mut Cursor) -> io::Result<()> {
        self.terminal.draw(|frame| screen::draw(frame, view, cursor)).map(|_| ())
    }

    /// What was pressed since the last call; never waits. A terminal that is gone asks to end.
    pub(super) fn keys(&mut self) -> Vec<Key> {
        let mut keys = Vec::new();
        loop {
            match event::poll(Duration::ZERO) {
                Ok(false) => return keys,
                Ok(true) => match event::read() {
                    Ok(event) => keys.extend(key_of(&event)),
                    Err(_) => return vec![Key::End],
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return keys,
                Err(_) => return vec![Key::End],
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn key_of(event: &Event) -> Option<Key> {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else {
        return matches!(event, Event::Resize(..)).then_some(Key::Resized);
    };
    if *kind == KeyEventKind::Release {
        return None;
    }
    match code {
        // Raw mode takes the signal away from Ctrl-C.
        KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => Some(Key::End),
        KeyCode::Char('q') => Some(Key::End),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Down),
        KeyCode::Tab | KeyCode::BackTab => Some(Key::Other),
        KeyCode::Enter | KeyCode::Right => Some(Key::Open),
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => Some(Key::Back),
        KeyCode::Char(' ') => Some(Key::Hold),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        let key = |code, modifiers| key_of(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = |code| key(code, KeyModifiers::NONE);
        assert_eq!(plain(KeyCode::Char('q')), Some(Key::End));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::End));
        assert_eq!(plain(KeyCode::Char('c')), None);
        assert_eq!((plain(KeyCode::Char('j')), plain(KeyCode::Down)), (Some(Key::Down), Some(Key::Down)));
        assert_eq!((plain(KeyCode::Char('k')), plain(KeyCode::Up)), (Some(Key::Up), Some(Key::Up)));
        assert_eq!((plain(KeyCode::Tab), plain(KeyCode::Enter)), (Some(Key::Other), Some(Key::Open)));
        assert_eq!((plain(KeyCode::Esc), plain(KeyCode::Char(' '))), (Some(Key::Back), Some(Key::Hold)));
        assert_eq!(key_of(&Event::Resize(80, 24)), Some(Key::Resized));
    }
}
