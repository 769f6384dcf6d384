//! Plots one stream's hit ratios as SVG. Solid lines are the engine's policies, dashed lines are
//! other libraries, the dotted line is the optimum. The background is white, so that the plot is
//! readable on light and dark pages.

use std::path::Path;

use anyhow::Context;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::FontTransform;

use crate::subjects;
use crate::table::{Grid, OPTIMUM, is_default};

const WIDTH: u32 = 900;
const HEIGHT: u32 = 600;
/// Horizontal position of the legend.
const NAMES_FROM: u32 = 720;
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(225, 225, 225);
/// The palette of Okabe and Ito, which is distinguishable for colour-blind readers, with a darker
/// yellow, and a brown.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(150, 140, 0),
    RGBColor(120, 80, 50),
    RGBColor(213, 94, 0),
];

/// Line style of one row.
struct Pen {
    style: ShapeStyle,
    /// Lengths of dash and gap in pixels; `None` is a solid line.
    dash: Option<(i32, i32)>,
}

fn pen(grid: &Grid, row: usize) -> Pen {
    let (name, _) = &grid.rows[row];
    let rivals_from = grid.rows.iter().position(|(name, _)| subjects::is_rival(name)).unwrap_or(0);
    if *name == OPTIMUM {
        return Pen { style: INK.stroke_width(1), dash: Some((2, 3)) };
    }
    if subjects::is_rival(name) {
        let colour = COLOURS[(row - rivals_from) % COLOURS.len()];
        return Pen { style: colour.stroke_width(2), dash: Some((6, 4)) };
    }
    let width = if is_default(name) { 4 } else { 2 };
    Pen { style: COLOURS[row % COLOURS.len()].stroke_width(width), dash: None }
}

/// Writes the plot to a file.
pub(crate) fn draw(grid: &Grid, file: &Path) -> anyhow::Result<()> {
    let root = SVGBackend::new(file, (WIDTH, HEIGHT)).into_drawing_area();
    let context = || format!("draw {}", file.display());
    // The library's error borrows the file's name, so convert it to text.
    paint(grid, &root).map_err(|error| anyhow::anyhow!("{error}")).with_context(context)?;
    root.present().map_err(|error| anyhow::anyhow!("{error}")).with_context(context)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Painted<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn paint<'a>(grid: &Grid, root: &Area<'a>) -> Painted<'a> {
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(NAMES_FROM);
    let percents = || grid.sizes.iter().map(|size| size.percent);
    let (from, to) =
        (percents().fold(f64::MAX, f64::min), percents().fold(f64::MIN_POSITIVE, f64::max));
    let hits = || grid.rows.iter().flat_map(|(_, cells)| cells).copied();
    // Round the axis to tens around the data, so that close lines are distinguishable.
    let (low, high) = (hits().fold(f64::MAX, f64::min), hits().fold(1.0, f64::max));
    let (low, high) = ((low / 10.0).floor() * 10.0, (high / 10.0).ceil() * 10.0);
    let font = ("sans-serif", 15).into_font().color(&INK);
    // A single size needs an axis of some length too.
    let span = from * 0.9..to.max(from * 1.1);
    let mut chart = ChartBuilder::on(&left)
        .caption(format!("{}: hit ratio over cache size", grid.name), font.clone())
        .margin(10)
        .x_label_area_size(45)
        .y_label_area_size(50)
        .build_cartesian_2d(span.log_scale().with_key_points(percents().collect()), low..high)?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .x_desc("entries, % of distinct keys (logarithmic)")
        .y_desc("hit %")
        .x_label_formatter(&|percent| format!("{percent}"))
        .y_label_formatter(&|hits| format!("{hits:.0}"))
        .draw()?;
    for (row, (_, cells)) in grid.rows.iter().enumerate() {
        let points: Vec<(f64, f64)> = percents().zip(cells.iter().copied()).collect();
        let Pen { style, dash } = pen(grid, row);
        match dash {
            Some((on, off)) => chart.draw_series(DashedLineSeries::new(points, on, off, style))?,
            None => chart.draw_series(LineSeries::new(points, style))?,
        };
    }
    names(grid, &right)
}

/// Draws the legend in the order of the lines' right ends.
fn names<'a>(grid: &Grid, area: &Area<'a>) -> Painted<'a> {
    let mut order: Vec<usize> = (0..grid.rows.len()).collect();
    let end = |&row: &usize| grid.rows[row].1.last().copied().unwrap_or(0.0);
    order.sort_by(|a, b| end(b).total_cmp(&end(a)));
    let font = ("sans-serif", 14).into_font().transform(FontTransform::None);
    for (place, row) in (0i32..).zip(order) {
        let y = 60 + place * 30;
        let Pen { style, dash } = pen(grid, row);
        let line = vec![(0, y), (34, y)];
        match dash {
            Some((on, off)) => area.draw(&DashedPathElement::new(line, on, off, style))?,
            None => area.draw(&PathElement::new(line, style))?,
        }
        let name = grid.rows[row].0;
        let role = if is_default(name) { " (default)" } else { "" };
        area.draw(&Text::new(format!("{name}{role}"), (42, y - 7), font.color(&INK)))?;
    }
    Ok(())
}
