//! How it looks. Everything that machines say goes through [`escape`].

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table, TableState};

use super::Sort;
use super::machines::{Machines, Snapshot, Watched, speed};
use crate::commands::ps::command_text;
use crate::durations::{length, size};
use crate::terminal::escape;

/// From here on something is worth a look, and from there on a worry, percent.
const HIGH: (f32, f32) = (70.0, 90.0);

/// Lines of the graphs.
const GRAPH: u16 = 6;

/// Processors that have a line of their own.
const MAX_PROCESSORS: usize = 64;

/// Draws it.
pub fn all(frame: &mut Frame<'_>, machines: &mut Machines, color: bool) {
    let [title, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    let paint = Paint(color);
    if let Some(machine) = machines.opened() {
        head(frame, title, machine);
        let parts = [
            Constraint::Length(GRAPH),
            Constraint::Length(lines_of(machine, body)),
            Constraint::Min(0),
        ];
        let [graphs, meters, rest] = Layout::vertical(parts).areas(body);
        graphs_of(frame, graphs, machine, paint);
        meters_of(frame, meters, machine, paint);
        let rows = usize::from(rest.height.saturating_sub(1));
        let processes = machines.processes(rows);
        process_table(frame, rest, &processes, paint);
        foot_line(frame, foot, machines, "Esc all machines  c m sort  r turn  ↑↓ scroll  q quit");
    } else {
        let count = machines.list().len();
        let known = machines.list().iter().filter(|machine| machine.now.is_some()).count();
        let text = format!("{known} of {count} machines, by {}", sort_word(machines.sort()));
        frame.render_widget(Paragraph::new(text), title);
        machine_table(frame, body, machines, paint);
        foot_line(frame, foot, machines, "Enter shows one  a c m d n l sort  r turn  q quit");
    }
}

/// Colours, if they are wanted.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn of(self, color: Color) -> Style {
        if self.0 { Style::new().fg(color) } else { Style::new() }
    }

    fn percent(self, value: f32) -> Style {
        if value >= HIGH.1 {
            self.of(Color::Red).add_modifier(Modifier::BOLD)
        } else if value >= HIGH.0 {
            self.of(Color::Yellow)
        } else {
            Style::new()
        }
    }
}

fn sort_word(sort: Sort) -> &'static str {
    match sort {
        Sort::Name => "name",
        Sort::Cpu => "processor",
        Sort::Memory => "memory",
        Sort::Disk => "disk",
        Sort::Network => "network",
        Sort::Load => "load",
    }
}

fn foot_line(frame: &mut Frame<'_>, area: Rect, machines: &Machines, keys: &str) {
    let text =
        machines.said().map_or_else(|| keys.to_owned(), |said| escape(said).replace('\n', " "));
    frame.render_widget(Paragraph::new(text).style(Modifier::DIM), area);
}

fn machine_table(frame: &mut Frame<'_>, area: Rect, machines: &Machines, paint: Paint) {
    let titles = [
        "MACHINE",
        "CPU%",
        "LOAD",
        "MEMORY",
        "MEM%",
        "DISK%",
        "READ",
        "WRITTEN",
        "IN",
        "OUT",
        "CPU, LATELY",
    ];
    let widths = [
        Constraint::Min(12),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(20),
    ];
    let rows = machines.list().iter().map(|machine| {
        let name = Cell::new(escape(&machine.name));
        let Some(now) = &machine.now else { return Row::new([name, Cell::new("…")]) };
        let (read, written) = now.disk();
        let (received, sent) = now.network();
        Row::new([
            name,
            Cell::new(format!("{:.1}", now.cpu())).style(paint.percent(now.cpu())),
            Cell::new(format!("{:.2}", now.sample.load[0])),
            Cell::new(size(now.memory_used())),
            Cell::new(format!("{:.0}", now.memory())).style(paint.percent(now.memory())),
            Cell::new(format!("{:.0}", now.space())).style(paint.percent(now.space())),
            Cell::new(speed(read)),
            Cell::new(speed(written)),
            Cell::new(speed(received)),
            Cell::new(speed(sent)),
            Cell::new(line_of(machine.cpu.iter().copied(), 100, 20)).style(paint.of(Color::Cyan)),
        ])
    });
    let table = Table::new(rows, widths)
        .header(Row::new(titles).style(Modifier::BOLD))
        .row_highlight_style(Modifier::REVERSED);
    let mut state = TableState::default().with_selected(machines.index());
    frame.render_stateful_widget(table, area, &mut state);
}

/// The last values as a line of blocks, `most` being a full one.
pub fn line_of(values: impl DoubleEndedIterator<Item = u64>, most: u64, width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let mut blocks: Vec<char> = values
        .rev()
        .take(width)
        .map(|value| {
            let at = value.saturating_mul(7) / most.max(1);
            BLOCKS.get(usize::try_from(at).unwrap_or(7)).copied().unwrap_or('█')
        })
        .collect();
    blocks.reverse();
    blocks.into_iter().collect()
}

fn head(frame: &mut Frame<'_>, area: Rect, machine: &Watched) {
    let mut text = escape(&machine.name);
    if let Some(now) = &machine.now {
        let [one, five, fifteen] = now.sample.load;
        text.push_str(&format!(
            "  up {}  load {one:.2} {five:.2} {fifteen:.2}  {} processes",
            length(now.sample.uptime_s.saturating_mul(1000)),
            now.sample.process_count
        ));
        if let Some(pressure) = now.sample.pressure {
            text.push_str(&format!(
                "  waiting for cpu {:.0}% memory {:.0}% disk {:.0}%",
                pressure.cpu, pressure.memory, pressure.io
            ));
        }
    }
    frame.render_widget(Paragraph::new(text).style(Modifier::BOLD), area);
}

fn graphs_of(frame: &mut Frame<'_>, area: Rect, machine: &Watched, paint: Paint) {
    let areas: [Rect; 4] = Layout::horizontal([Constraint::Ratio(1, 4); 4]).areas(area);
    let now = machine.now.as_ref();
    let (received, sent) = now.map(Snapshot::network).unwrap_or_default();
    let graphs = [
        (
            format!("cpu {:.0}%", now.map_or(0.0, Snapshot::cpu)),
            &machine.cpu,
            Some(100),
            Color::Green,
        ),
        (
            format!("memory {:.0}%", now.map_or(0.0, Snapshot::memory)),
            &machine.memory,
            Some(100),
            Color::Magenta,
        ),
        (format!("in {}", speed(received)), &machine.received, None, Color::Cyan),
        (format!("out {}", speed(sent)), &machine.sent, None, Color::Blue),
    ];
    for (area, (title, values, most, color)) in areas.into_iter().zip(graphs) {
        let room = usize::from(area.width.saturating_sub(2));
        let skip = values.len().saturating_sub(room);
        let shown: Vec<u64> = values.iter().skip(skip).copied().collect();
        let graph = Sparkline::default().block(Block::bordered().title(title)).data(shown);
        let graph = graph.style(paint.of(color));
        let graph = if let Some(most) = most { graph.max(most) } else { graph };
        frame.render_widget(graph, area);
    }
}

/// Lines that its processors, memory, disks and networks take up.
fn lines_of(machine: &Watched, body: Rect) -> u16 {
    let lines = machine.now.as_ref().map_or(0, |now| meter_lines(now, body.width).len());
    // Half of what is left is for processes.
    u16::try_from(lines).unwrap_or(u16::MAX).min(body.height.saturating_sub(GRAPH) / 2)
}

fn meters_of(frame: &mut Frame<'_>, area: Rect, machine: &Watched, paint: Paint) {
    let Some(now) = &machine.now else { return };
    let lines: Vec<Line<'_>> = meter_lines(now, area.width).into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines).style(paint.of(Color::Reset)), area);
}

fn meter_lines(now: &Snapshot, width: u16) -> Vec<String> {
    let mut lines = Vec::new();
    let each = 16;
    let columns = (usize::from(width) / each).max(1);
    let shares = now.sample.processors.iter().skip(1).take(MAX_PROCESSORS).enumerate();
    let cells: Vec<String> = shares
        .map(|(number, share)| format!("{:<each$}", format!("{number:>3} {}", bar(share.busy()))))
        .collect();
    lines.extend(cells.chunks(columns).map(<[String]>::concat));
    let all = now.sample.processors.first().copied().unwrap_or_default();
    lines.push(format!(
        "cpu     user {:.1}%  system {:.1}%  iowait {:.1}%  steal {:.1}%",
        all.user, all.system, all.iowait, all.steal
    ));
    let memory = now.sample.memory;
    lines.push(format!(
        "memory  {} of {}  cached {}  free {}  swap {} of {}",
        size(now.memory_used()),
        size(memory.total),
        size(memory.cached),
        size(memory.free),
        size(memory.swap_total.saturating_sub(memory.swap_free)),
        size(memory.swap_total)
    ));
    for disk in &now.sample.disks {
        lines.push(format!(
            "disk    {:<12} read {:>12} ({}/s)  written {:>12} ({}/s)  busy {:.0}%",
            escape(&disk.name),
            speed(disk.read),
            disk.reads,
            speed(disk.written),
            disk.writes,
            disk.busy
        ));
    }
    for network in &now.sample.networks {
        lines.push(format!(
            "network {:<12} in   {:>12} ({}/s)  out     {:>12} ({}/s)  faults {}/s",
            escape(&network.name),
            speed(network.received),
            network.received_packets,
            speed(network.sent),
            network.sent_packets,
            network.faults
        ));
    }
    lines
}

/// `[||||    ]`.
fn bar(percent: f32) -> String {
    // The cast saturates.
    let full = ((percent / 10.0).round() as usize).min(10);
    format!("[{:<10}]", "|".repeat(full))
}

fn process_table(
    frame: &mut Frame<'_>,
    area: Rect,
    processes: &[reeve_protocol::ops::Process],
    paint: Paint,
) {
    let titles = ["PID", "USER", "S", "CPU%", "MEMORY", "TIME", "COMMAND"];
    let widths = [
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(2),
        Constraint::Length(6),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Min(10),
    ];
    let rows = processes.iter().take(usize::from(area.height)).map(|process| {
        let user = process.user.clone().unwrap_or_else(|| process.uid.to_string());
        Row::new([
            Cell::new(process.pid.to_string()),
            Cell::new(escape(&user)),
            Cell::new(escape(&process.state)),
            Cell::new(format!("{:.1}", process.cpu_percent))
                .style(paint.percent(process.cpu_percent)),
            Cell::new(size(process.memory)),
            Cell::new(length(process.cpu_ms)),
            Cell::new(escape(&command_text(process)).replace(['\n', '\t'], " ")),
        ])
    });
    let table = Table::new(rows, widths).header(Row::new(titles).style(Modifier::BOLD));
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use super::super::keys::Wish;
    use super::super::machines::samples::sample;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn draw(machines: &mut Machines, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| all(frame, machines, true)).expect("drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn all_machines_and_then_one_are_shown() {
        let mut machines = Machines::new(Sort::Cpu);
        machines.expect("silent");
        machines.take("web-1", sample(93.0, 60));
        let text = draw(&mut machines, 140, 20);
        assert!(text.contains("1 of 2 machines") && text.contains("web-1"), "{text}");
        assert!(
            text.contains("93.0") && text.contains("60.0 MiB") && text.contains("2.0 KiB/s"),
            "{text}"
        );
        machines.wish(Wish::Open);
        let text = draw(&mut machines, 140, 40);
        assert!(text.contains("memory 60%") && text.contains("COMMAND"), "{text}");
        // What a process calls itself drives no terminal.
        assert!(text.contains("b^[[2J") && !text.contains('\x1b'), "{text}");
        machines.say("the connection broke".to_owned());
        assert!(draw(&mut machines, 140, 40).contains("the connection broke"));
    }

    #[test]
    fn terminals_of_any_size_are_drawn_on() {
        let mut machines = Machines::new(Sort::Cpu);
        machines.take("web-1", sample(93.0, 60));
        for (width, height) in [(1, 1), (3, 2), (20, 5), (80, 24), (500, 200)] {
            draw(&mut machines, width, height);
            machines.wish(Wish::Open);
            draw(&mut machines, width, height);
            machines.wish(Wish::Back);
        }
    }

    #[test]
    fn lately_is_a_line_of_blocks() {
        assert_eq!(line_of([0, 50, 100].into_iter(), 100, 20), "▁▄█");
        assert_eq!(line_of([0, 100, 900].into_iter(), 100, 2), "██");
        assert_eq!(line_of([].into_iter(), 0, 5), "");
    }
}
