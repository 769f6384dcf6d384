//! `larder curve`: what a group's hit ratio would be with other memory or another policy, from
//! every member's own prediction.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use larder_client::{CurveResponse, MemberAnswer};
use serde_json::{Value, json};

use crate::connect::{Endpoint, runtime};
use crate::output::{Format, bytes, note, print, print_json};

mod bars;

use bars::Bars;

/// Less than so much, as a part of one, is not worth a word: the prediction is no finer.
const WORTH_A_WORD: f64 = 0.005;

#[derive(Debug, Args)]
pub(crate) struct ShowCurve {
    /// Name of the CacheGroup
    group: String,

    /// How to print it
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

impl ShowCurve {
    pub(crate) fn run(self, endpoint: &Endpoint) -> anyhow::Result<ExitCode> {
        let client = endpoint.cluster()?;
        let told = runtime()?.block_on(client.curve(&self.group))?;
        let members = told.len();
        let answers = answers(told)?;
        if answers.len() < members {
            note(&format!("{} of {members} members answered", answers.len()));
        }
        let curve = Merged::of(&self.group, &answers)?;
        match self.output {
            Format::Json => print_json(&curve.json())?,
            Format::Text => print(curve.text(Bars::of(&std::io::stdout())))?,
        }
        let all = answers.len() == members;
        Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What the members said; the first error when nobody said anything, or when one says that the
/// request is wrong.
pub(crate) fn answers<T>(told: Vec<MemberAnswer<T>>) -> anyhow::Result<Vec<T>> {
    let mut answers = Vec::new();
    let mut error = None;
    for member in told {
        match member.answer {
            Ok(answer) => answers.push(answer),
            Err(error) if error.code() == tonic::Code::Unimplemented => {
                bail!("{} is too old to tell: it has no such call", member.address)
            }
            Err(unknown @ larder_client::Error::UnknownGroup { .. }) => return Err(unknown.into()),
            Err(other) => error = error.or(Some(other)),
        }
    }
    if answers.is_empty() {
        return Err(error.context("no member is known")?.into());
    }
    Ok(answers)
}

/// All members' curves as one, each weighing as much as it has reads.
#[derive(Debug)]
struct Merged<'a> {
    group: &'a str,
    policy: &'a str,
    members: usize,
    limit_bytes: u64,
    requests: u64,
    sampled: u64,
    memory_bytes: u64,
    actual: f64,
    /// Percent of the present memory, and the hit ratio.
    sizes: Vec<(u32, f64)>,
    /// At the present size, the best first.
    policies: Vec<(&'a str, f64)>,
}

impl<'a> Merged<'a> {
    fn of(group: &'a str, answers: &'a [CurveResponse]) -> anyhow::Result<Self> {
        let telling = || answers.iter().filter(|answer| !answer.sizes.is_empty());
        let Some(most) = telling().max_by_key(|answer| answer.requests) else {
            let sampled: u64 = answers.iter().map(|answer| answer.sampled).max().unwrap_or(0);
            let needed = answers.iter().map(|answer| answer.needed).max().unwrap_or(0);
            bail!(
                "{group}: not enough requests yet: {sampled} of {} sampled at the busiest member",
                thousands(needed)
            )
        };
        // While a new policy reaches the members, those of the other one do not mix.
        let alike: Vec<_> = telling().filter(|answer| answer.policy == most.policy).collect();
        let mean = |of: &dyn Fn(&CurveResponse) -> f64| {
            let sum: f64 = alike.iter().map(|a| of(a) * a.requests as f64).sum();
            sum / alike.iter().map(|a| a.requests as f64).sum::<f64>().max(1.0)
        };
        let sizes = most.sizes.iter().enumerate().map(|(at, size)| {
            (size.percent, mean(&|a| a.sizes.get(at).map_or(0.0, |size| size.hit_ratio)))
        });
        let policies = most.policies.iter().map(|policy| {
            let name = policy.policy.as_str();
            let ratio = |a: &CurveResponse| {
                let found = a.policies.iter().find(|other| other.policy == name);
                found.map_or(0.0, |other| other.hit_ratio)
            };
            (name, mean(&ratio))
        });
        let sizes: Vec<_> = sizes.collect();
        let mut policies: Vec<_> = policies.collect();
        policies.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(Merged {
            group,
            policy: &most.policy,
            members: alike.len(),
            limit_bytes: alike.iter().map(|a| a.limit_bytes).sum(),
            requests: alike.iter().map(|a| a.requests).sum(),
            sampled: alike.iter().map(|a| a.sampled).sum(),
            memory_bytes: alike.iter().map(|a| a.memory_bytes).sum(),
            actual: mean(&|a| a.actual),
            sizes,
            policies,
        })
    }

    fn text(&self, bars: Bars) -> String {
        let mut text = format!(
            "{}: {}, {} on {} members, hit ratio {} of {} reads lately\n\nMEMORY\n",
            self.group,
            self.policy,
            bytes(self.limit_bytes),
            self.members,
            percent(self.actual),
            thousands(self.requests),
        );
        for &(size, ratio) in &self.sizes {
            let label = format!("{:>9} ×{:<5}", self.bytes_at(size), f64::from(size) / 100.0);
            let now = if size == 100 { " now" } else { "" };
            text += &bars.line(&label, &percent(ratio), ratio, now);
        }
        text += "\nPOLICY, at the present size\n";
        let own = self.own();
        for &(policy, ratio) in &self.policies {
            let mark = match policy == self.policy {
                true => " now".to_owned(),
                false => format!(" {:+.1}", (ratio - own) * 100.0),
            };
            text += &bars.line(&format!("{policy:16}"), &percent(ratio), ratio, &mark);
        }
        text + "\n" + &self.reading() + "\n"
    }

    fn bytes_at(&self, percent: u32) -> String {
        bytes(self.limit_bytes / 100 * u64::from(percent))
    }

    fn at(&self, percent: u32) -> f64 {
        self.sizes.iter().find(|(size, _)| *size == percent).map_or(0.0, |(_, ratio)| *ratio)
    }

    fn own(&self) -> f64 {
        self.at(100)
    }

    fn best_rival(&self) -> Option<(&str, f64)> {
        let rival = self.policies.iter().find(|(policy, _)| *policy != self.policy)?;
        Some((rival.0, rival.1 - self.own()))
    }

    /// The curve in one line.
    fn reading(&self) -> String {
        let (own, half, twice) = (self.own(), self.at(50), self.at(200));
        let memory = if own - half < WORTH_A_WORD {
            format!("half the memory would do: {} → {}", percent(own), percent(half))
        } else {
            format!("twice the memory: {} → {}", percent(own), percent(twice))
        };
        let policy = match self.best_rival() {
            Some((rival, gain)) if gain >= WORTH_A_WORD => {
                format!("{rival} at the present size: {:+.1} points", gain * 100.0)
            }
            _ => format!("no policy does better than {} at the present size", self.policy),
        };
        format!("{memory}; {policy}")
    }

    fn json(&self) -> Value {
        let sizes = self.sizes.iter().map(|&(percent, ratio)| {
            json!({
                "percent": percent, "bytes": self.limit_bytes / 100 * u64::from(percent),
                "hitRatio": ratio,
            })
        });
        let policies = self
            .policies
            .iter()
            .map(|(policy, ratio)| json!({"policy": policy, "hitRatio": ratio}));
        json!({
            "group": self.group, "policy": self.policy, "members": self.members,
            "limitBytes": self.limit_bytes, "requests": self.requests, "sampled": self.sampled,
            "memoryBytes": self.memory_bytes, "actualHitRatio": self.actual,
            "sizes": sizes.collect::<Vec<_>>(), "policies": policies.collect::<Vec<_>>(),
            "reading": self.reading(),
        })
    }
}

fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

/// `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use larder_client::{PredictedPolicy, PredictedSize};

    use super::*;

    fn answer(requests: u64, ratios: [f64; 5], s3: f64) -> CurveResponse {
        let sizes = [25, 50, 100, 200, 400].into_iter().zip(ratios);
        let policy = |policy: &str, hit_ratio| PredictedPolicy { policy: policy.into(), hit_ratio };
        CurveResponse {
            member: "shop-0".into(),
            policy: "Lru".into(),
            limit_bytes: 6 << 20,
            requests,
            sampled: 2_000,
            needed: 1_000,
            actual: ratios[2],
            sizes: sizes.map(|(percent, hit_ratio)| PredictedSize { percent, hit_ratio }).collect(),
            policies: vec![policy("Lru", ratios[2]), policy("S3Fifo", s3)],
            memory_bytes: 1,
        }
    }

    #[test]
    fn members_weigh_as_much_as_they_have_reads() {
        let answers = [
            answer(30_000, [0.4, 0.6, 0.8, 0.9, 0.95], 0.82),
            answer(10_000, [0.0, 0.2, 0.4, 0.5, 0.55], 0.42),
        ];
        let merged = Merged::of("students", &answers).expect("old enough");
        assert_eq!(
            merged.text(Bars::plain(60)),
            "\
students: Lru, 12.0 MiB on 2 members, hit ratio 70.0 % of 40,000 reads lately

MEMORY
  3.0 MiB ×0.25   30.0 %  ########
  6.0 MiB ×0.5    50.0 %  ##############
 12.0 MiB ×1      70.0 %  ################### now
 24.0 MiB ×2      80.0 %  ######################
 48.0 MiB ×4      85.0 %  #######################

POLICY, at the present size
S3Fifo            72.0 %  #################### +2.0
Lru               70.0 %  ################### now

twice the memory: 70.0 % → 80.0 %; S3Fifo at the present size: +2.0 points
"
        );
    }

    #[test]
    fn a_flat_curve_says_that_less_would_do() {
        let answers = [answer(10, [0.7, 0.9, 0.9, 0.9, 0.9], 0.9)];
        let merged = Merged::of("g", &answers).expect("old enough");
        assert_eq!(
            merged.reading(),
            "half the memory would do: 90.0 % → 90.0 %; \
             no policy does better than Lru at the present size"
        );
    }

    #[test]
    fn young_members_are_left_out_and_alone_they_say_so() {
        let young = CurveResponse { sampled: 120, needed: 1_000, ..CurveResponse::default() };
        let both = [young.clone(), answer(10, [0.1, 0.2, 0.3, 0.4, 0.5], 0.3)];
        assert_eq!(Merged::of("g", &both).expect("one tells").members, 1);
        let error = Merged::of("g", std::slice::from_ref(&young)).expect_err("too young");
        assert_eq!(
            error.to_string(),
            "g: not enough requests yet: 120 of 1,000 sampled at the busiest member"
        );
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!([7, 999, 1_000, 1_234_567].map(thousands), ["7", "999", "1,000", "1,234,567"]);
    }
}
