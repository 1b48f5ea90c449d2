//! `nape top`: a table of calls that is drawn again and again.

use std::{
    io::{self, IsTerminal},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    layout::{Constraint, Layout},
    style::{Color, Style},
    text::Line,
    widgets::{Cell, Row as Cells, Table},
};

use crate::{
    args,
    link::Met,
    numbers::{self, Choice, Order, Row, Sample},
    output::{Out, clean, wants_colors},
    trouble::Trouble,
};

/// What is on the screen.
struct View<'a> {
    address: &'a str,
    args: &'a args::Top,
    choice: Choice,
    order: Order,
    /// The first row that is shown.
    first: usize,
    before: Option<Sample>,
    now: Option<Sample>,
    /// When the program answered last.
    answered: Instant,
    colors: bool,
}

/// What a key asks for.
enum Wish {
    Quit,
    Nothing,
}

/// A live table needs somebody who looks at it.
pub(crate) fn check(args: &args::Top) -> Result<(), Trouble> {
    if args.once || (io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Ok(());
    }
    Err(Trouble::usage("top needs a terminal; --once prints one table without"))
}

pub(crate) fn top(met: &Met, args: &args::Top, out: &mut Out) -> Result<(), Trouble> {
    let choice = Choice { prefix: args.prefix.clone(), sum: args.sum, all: args.all };
    if args.once {
        return once(met, args, &choice, out);
    }
    // What goes wrong at once is told without a screen that comes and goes.
    let first = Sample::take(met)?;
    let (sender, samples) = sync_channel(1);
    let (stop, stopped) = sync_channel::<()>(0);
    thread::scope(|scope| {
        scope.spawn(move || sample(met, args.interval, &sender, &stopped));
        let ended = on_screen(met, args, choice, first, &samples);
        // Both end whoever asks: between two questions, or within one.
        drop(stop);
        drop(samples);
        met.close();
        ended
    })
}

fn once(met: &Met, args: &args::Top, choice: &Choice, out: &mut Out) -> Result<(), Trouble> {
    let before = Sample::take(met)?;
    thread::sleep(args.interval);
    let rows = Sample::take(met)?.rows(Some(&before), choice, Order::Rate);
    if args.json { out.json(&rows) } else { out.table(&numbers::table(&rows)) }
}

/// Asks again and again, until nobody takes the answers or one is an error.
fn sample(
    met: &Met,
    interval: Duration,
    samples: &SyncSender<Result<Sample, Trouble>>,
    stopped: &Receiver<()>,
) {
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let taken = Sample::take(met);
        let is_last = taken.is_err();
        if samples.send(taken).is_err() || is_last {
            return;
        }
    }
}

fn on_screen(
    met: &Met,
    args: &args::Top,
    choice: Choice,
    first: Sample,
    samples: &Receiver<Result<Sample, Trouble>>,
) -> Result<(), Trouble> {
    let mut terminal = ratatui::try_init()?;
    let mut view = View {
        address: &met.address,
        args,
        choice,
        order: Order::Rate,
        first: 0,
        before: None,
        now: Some(first),
        answered: Instant::now(),
        colors: wants_colors(args::When::Auto),
    };
    let ended = watch(&mut terminal, &mut view, samples);
    ratatui::try_restore()?;
    ended
}

fn watch(
    terminal: &mut DefaultTerminal,
    view: &mut View<'_>,
    samples: &Receiver<Result<Sample, Trouble>>,
) -> Result<(), Trouble> {
    loop {
        terminal.draw(|frame| view.draw(frame))?;
        while event::poll(if view.take(samples)? { Duration::ZERO } else { LOOK })? {
            if let Wish::Quit = view.obey(&event::read()?) {
                return Ok(());
            }
            terminal.draw(|frame| view.draw(frame))?;
        }
    }
}

impl View<'_> {
    /// Whether something new has come.
    fn take(&mut self, samples: &Receiver<Result<Sample, Trouble>>) -> Result<bool, Trouble> {
        let Ok(sample) = samples.try_recv() else { return Ok(false) };
        self.before = self.now.replace(sample?);
        self.answered = Instant::now();
        Ok(true)
    }

    fn obey(&mut self, event: &Event) -> Wish {
        let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else {
            return Wish::Nothing;
        };
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return Wish::Quit,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Down | KeyCode::Char('j') => self.first += 1,
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            _ => {}
        }
        Wish::Nothing
    }

    fn rows(&self) -> Vec<Row> {
        self.now.iter().flat_map(|now| now.rows(self.before.as_ref(), &self.choice, self.order)).collect()
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let rows = self.rows();
        self.first = self.first.min(rows.len().saturating_sub(1));
        let parts = [Constraint::Length(1), Constraint::Min(2), Constraint::Length(1)];
        let [head, body, foot] = Layout::vertical(parts).areas(frame.area());
        frame.render_widget(Line::styled(self.headline(rows.len()), Style::new().bold()), head);
        frame.render_widget(self.table(&rows), body);
        let keys = format!("q quits  s sorts (now by {})  up and down scroll", self.order.name());
        frame.render_widget(Line::styled(keys, Style::new().dim()), foot);
    }

    fn headline(&self, n_rows: usize) -> String {
        let silent = self.answered.elapsed();
        let late = self.args.interval + Duration::from_secs(1);
        let state =
            if silent > late { format!("no answer for {} s", silent.as_secs()) } else { String::new() };
        format!("nape top  {}  {n_rows} rows  {state}", clean(self.address))
    }

    fn table(&self, rows: &[Row]) -> Table<'static> {
        let (names, cells) = numbers::columns(rows);
        let width = |column: usize| {
            let texts = cells.iter().map(|row| row[column].chars().count());
            texts.chain([names[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..names.len()).map(|at| Constraint::Length(width(at) as u16)).collect();
        let lines = rows.iter().zip(&cells).skip(self.first).map(|(row, cells)| {
            let alarm = self.colors && row.faults > 0;
            let style = if alarm { Style::new().fg(Color::Red) } else { Style::new() };
            Cells::new(cells.iter().map(|text| Cell::new(clean(text)))).style(style)
        });
        let head = if self.colors { Style::new().fg(Color::Cyan).bold() } else { Style::new().bold() };
        Table::new(lines, widths).header(Cells::new(names).style(head)).column_spacing(2)
    }
}

/// How long at most until what has come is drawn, and how long it has not.
const LOOK: Duration = Duration::from_millis(100);
