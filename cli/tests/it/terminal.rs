//! A terminal with a shell in it.

use std::{
    io::{Read, Write},
    path::Path,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Instant,
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::support::HANG;

/// A shell that waits for commands, and the screen that it writes to.
pub struct Terminal {
    keys: Box<dyn Write + Send>,
    screen: Arc<(Mutex<vt100::Parser>, Condvar)>,
    shell: Box<dyn Child + Send + Sync>,
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    /// With the command in the search path, and variables.
    pub fn open(variables: &[(&str, &str)]) -> Terminal {
        let size = PtySize { rows: ROWS, cols: COLUMNS, ..PtySize::default() };
        let pty = native_pty_system().openpty(size).unwrap();
        let mut shell = CommandBuilder::new("sh");
        shell.env_clear();
        let here = Path::new(env!("CARGO_BIN_EXE_nape")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", here.display()));
        for (name, value) in [("PS1", "$ "), ("TERM", "xterm-256color"), ("LANG", "C.UTF-8")] {
            shell.env(name, value);
        }
        variables.iter().for_each(|(name, value)| shell.env(name, value));
        let shell = pty.slave.spawn_command(shell).unwrap();
        drop(pty.slave);
        let screen = Arc::new((Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)), Condvar::new()));
        let (shown, mut from) = (screen.clone(), pty.master.try_clone_reader().unwrap());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A terminal whose last program has gone is an error to read from.
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                shown.0.lock().unwrap().process(&bytes[..n]);
                shown.1.notify_all();
            }
        });
        let keys = pty.master.take_writer().unwrap();
        let terminal = Terminal { keys, screen, shell, _master: pty.master };
        terminal.until("a prompt", is_at_prompt);
        terminal
    }

    /// Types something.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Types a command on an empty screen.
    pub fn enter(&mut self, command: &str) {
        *self.screen.0.lock().unwrap() = vt100::Parser::new(ROWS, COLUMNS, 0);
        self.press(&format!("{command}\n"));
    }

    /// The same, and waits until it has ended. What stands on the screen then, without the next prompt.
    pub fn run(&mut self, command: &str) -> String {
        self.enter(command);
        self.end()
    }

    /// Waits until the shell asks for the next command.
    pub fn end(&self) -> String {
        let shown = self.until("the next prompt", |screen| is_at_prompt(screen) && lines(screen).len() > 1);
        shown.strip_suffix("\n$").unwrap_or(&shown).to_owned()
    }

    /// Waits until the screen is as wanted, and says what stands on it.
    pub fn until(&self, what: &str, is_so: impl Fn(&vt100::Screen) -> bool) -> String {
        let end = Instant::now() + HANG;
        let (parser, news) = &*self.screen;
        let mut parser = parser.lock().unwrap();
        while !is_so(parser.screen()) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} on the screen:\n{}", parser.screen().contents());
            parser = news.wait_timeout(parser, left).unwrap().0;
        }
        lines(parser.screen()).join("\n")
    }

    /// What stands on the screen now.
    pub fn look(&self) -> String {
        self.look_at(|screen| screen.contents())
    }

    pub fn look_at<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.screen.0.lock().unwrap().screen())
    }

    /// Whether anything on the screen has a color.
    pub fn has_colors(&self) -> bool {
        let parser = self.screen.0.lock().unwrap();
        let cells = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (row, column)));
        cells
            .filter_map(|(row, column)| parser.screen().cell(row, column))
            .any(|cell| cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Without the blanks at their ends, and without what is empty below.
fn lines(screen: &vt100::Screen) -> Vec<String> {
    screen.contents().trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
}

fn is_at_prompt(screen: &vt100::Screen) -> bool {
    !screen.alternate_screen() && lines(screen).last().is_some_and(|line| line == "$")
}

const ROWS: u16 = 40;
const COLUMNS: u16 = 110;
