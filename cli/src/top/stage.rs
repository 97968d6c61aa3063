//! The terminal while it is ours. However this ends, it is given back as it was.

use ratatui::DefaultTerminal;

use super::draw;
use super::machines::Machines;
use crate::failure::Failure;
use crate::terminal::Screen;

/// The terminal, in the alternate screen and without line editing.
pub struct Stage(DefaultTerminal);

impl Stage {
    /// Takes the terminal. A panic gives it back, too.
    pub fn open() -> Result<Self, Failure> {
        let terminal = ratatui::try_init()
            .map_err(|error| Failure::new(format!("the terminal cannot be used: {error}")))?;
        Ok(Self(terminal))
    }

    pub fn draw(&mut self, machines: &mut Machines, screen: Screen) -> Result<(), Failure> {
        let drawn = self.0.draw(|frame| draw::all(frame, machines, screen.color));
        drawn.map(|_| ()).map_err(|error| Failure::new(format!("cannot draw: {error}")))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
