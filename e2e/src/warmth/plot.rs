//! Draws one change as SVG: the hit ratio above, the origin's calls below, over the seconds since
//! the change began. The background is white, so that the plot is readable on light and dark pages.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::bars::Bar;
use super::trace::{Second, Trace};

const WIDTH: u32 = 900;
const HEIGHT: u32 = 520;
/// Where the lower chart begins.
const LOWER_FROM: u32 = 300;
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(225, 225, 225);
/// Of the palette of Okabe and Ito, which colour-blind readers can tell apart.
const CLIENTS: RGBColor = RGBColor(0, 114, 178);
const AT_ORIGIN: RGBColor = RGBColor(230, 159, 0);
const CALLS: RGBColor = RGBColor(213, 94, 0);

/// Writes the plot to a file.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(bar: &Bar, trace: &Trace, file: &Path) -> Result<(), String> {
    let root = SVGBackend::new(file, (WIDTH, HEIGHT)).into_drawing_area();
    let drawn = paint(bar, trace, &root).and_then(|()| root.present());
    drawn.map_err(|error| format!("draw {}: {error}", file.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Painted<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// One line of a chart.
struct Line<'a> {
    name: &'a str,
    colour: RGBColor,
    value: fn(&Second) -> f64,
}

fn paint<'a>(bar: &Bar, trace: &Trace, root: &Area<'a>) -> Painted<'a> {
    root.fill(&WHITE)?;
    let (upper, lower) = root.split_vertically(LOWER_FROM);
    let clients = Line { name: "as clients see it", colour: CLIENTS, value: Second::hit_percent };
    let origin = Line {
        name: "as the origin counts it",
        colour: AT_ORIGIN,
        value: Second::hit_percent_at_origin,
    };
    let calls = Line {
        name: "calls at the origin",
        colour: CALLS,
        value: |second| f64::from(second.calls),
    };
    let title = format!("{}: {}", bar.name, bar.change);
    chart(trace, &upper, &title, "hit %", &[origin, clients])?;
    chart(trace, &lower, "", "origin calls/s", &[calls])
}

fn chart<'a>(
    trace: &Trace,
    area: &Area<'a>,
    title: &str,
    unit: &str,
    lines: &[Line<'_>],
) -> Painted<'a> {
    let x = |second: &Second| f64::from(second.at);
    let (Some(first), Some(last)) = (trace.seconds.first(), trace.seconds.last()) else {
        return Ok(());
    };
    let values = || trace.seconds.iter().flat_map(|second| lines.iter().map(|l| (l.value)(second)));
    // Tens around the data, so that small differences are visible.
    let low = (values().fold(f64::MAX, f64::min) / 10.0).floor() * 10.0;
    let high = (values().fold(1.0, f64::max) / 10.0).ceil() * 10.0;
    let font = ("sans-serif", 15).into_font().color(&INK);
    let mut chart = ChartBuilder::on(area)
        .caption(title, font)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(55)
        .build_cartesian_2d(x(first)..x(last) + 1.0, low..high.max(low + 10.0))?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .x_desc("seconds since the change began")
        .y_desc(unit)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for at in [0.0, trace.end] {
        let line = vec![(at, low), (at, high.max(low + 10.0))];
        chart.draw_series(DashedLineSeries::new(line, 3, 3, INK.stroke_width(1)))?;
    }
    for Line { name, colour, value } in lines {
        // A second's value stands in its middle.
        let points = trace.seconds.iter().map(|second| (x(second) + 0.5, value(second)));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    if lines.len() == 1 {
        // The axis names the only line.
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 13).into_font().color(&INK))
        .background_style(WHITE)
        .border_style(FAINT)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warmth::bars::BARS;
    use crate::warmth::figures::tests::trace;

    #[test]
    fn a_plot_shows_both_ratios_the_calls_and_the_change() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("w1.svg");
        let trace = trace(&[&[100; 10][..], &[60; 10]].concat());
        draw(&BARS[0], &trace, &file).expect("it is drawn");
        let svg = std::fs::read_to_string(&file).expect("written");
        for text in ["as clients see it", "as the origin counts it", "origin calls/s", "W1"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
