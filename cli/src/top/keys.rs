//! What is typed.

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::Sort;

/// Keys waiting to be looked at; more are typed ahead by nobody.
const QUEUE: usize = 64;

/// Rows of Page Up and Page Down.
const PAGE: isize = 10;

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Quit,
    /// Show the chosen machine.
    Open,
    /// Show all of them.
    Back,
    /// Go down so many rows.
    Move(isize),
    Sort(Sort),
    /// The other way round.
    Turn,
}

/// Something happened at the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Wish(Wish),
    /// It has another size.
    Resized,
}

/// What is typed from now on. Read on a thread that ends with the program: a read of the terminal
/// cannot be broken off.
pub struct Keys(mpsc::Receiver<Key>);

impl Keys {
    pub fn listen() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        std::thread::spawn(move || {
            while let Ok(event) = event::read() {
                let key = match event {
                    Event::Key(key) => find_wish(key).map(Key::Wish),
                    Event::Resize(..) => Some(Key::Resized),
                    _ => None,
                };
                if let Some(key) = key
                    && sender.blocking_send(key).is_err()
                {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next one; nothing when the terminal is gone.
    pub async fn next(&mut self) -> Option<Key> {
        self.0.recv().await
    }
}

fn find_wish(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c' | 'd') if control => Wish::Quit,
        KeyCode::Char('q') => Wish::Quit,
        KeyCode::Enter | KeyCode::Right => Wish::Open,
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => Wish::Back,
        KeyCode::Down | KeyCode::Char('j') => Wish::Move(1),
        KeyCode::Up | KeyCode::Char('k') => Wish::Move(-1),
        KeyCode::PageDown => Wish::Move(PAGE),
        KeyCode::PageUp => Wish::Move(-PAGE),
        KeyCode::Home => Wish::Move(isize::MIN / 2),
        KeyCode::End => Wish::Move(isize::MAX / 2),
        KeyCode::Char('a') => Wish::Sort(Sort::Name),
        KeyCode::Char('c') => Wish::Sort(Sort::Cpu),
        KeyCode::Char('m') => Wish::Sort(Sort::Memory),
        KeyCode::Char('d') => Wish::Sort(Sort::Disk),
        KeyCode::Char('n') => Wish::Sort(Sort::Network),
        KeyCode::Char('l') => Wish::Sort(Sort::Load),
        KeyCode::Char('r') => Wish::Turn,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_c_quits_and_c_sorts() {
        let key = |code, modifiers| find_wish(KeyEvent::new(code, modifiers));
        let none = KeyModifiers::NONE;
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('c'), none), Some(Wish::Sort(Sort::Cpu)));
        assert_eq!(key(KeyCode::Down, none), Some(Wish::Move(1)));
        assert_eq!(key(KeyCode::Char('z'), none), None);
    }
}
