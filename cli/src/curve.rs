//! `larder curve`: what a group's hit ratio would be with other memory or another policy, from
//! every member's own prediction.

mod bars;

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Args;
use larder_client::{Client, CurveResponse};
use serde_json::{Value, json};

use self::bars::Bars;
use crate::connect::{Connection, runtime};
use crate::members::Answers;
use crate::output::{Output, Report};
use crate::text::{bytes, percent, plural, ratio, thousands};

/// A difference in the hit ratio below this is not reported: the prediction is no finer.
const NOTABLE: f64 = 0.005;
/// Below this share of its memory in use, memory does not limit a group, and a smaller or larger
/// size cannot be judged.
const FULL_ENOUGH: f64 = 0.5;

#[derive(Debug, Args)]
pub(crate) struct ShowCurve {
    /// Name of the CacheGroup
    group: String,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

impl ShowCurve {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let client = self.connection.cluster()?;
        let (curves, used) = runtime()?.block_on(ask(&client, &self.group))?;
        let curve = Merged::of(&self.group, &curves, &used)?;
        let report = Report::new(curve.text(Bars::for_stdout()), curve.json());
        Ok(report.code(curves.code()).notes(curves.note()))
    }
}

/// Bytes that the group uses, by member.
type Used = BTreeMap<String, u64>;

async fn ask(client: &Client, group: &str) -> anyhow::Result<(Answers<CurveResponse>, Used)> {
    let curves = Answers::of(client.curve(group).await?)?;
    let states = Answers::of(client.status().await?)?.answers.into_iter();
    let used = states.map(|state| {
        let of_group = state.groups.iter().filter(|other| other.name == group);
        (state.member, of_group.map(|group| group.bytes).sum())
    });
    Ok((curves, used.collect()))
}

/// All members' curves as one, weighted by their reads.
#[derive(Debug)]
struct Merged<'a> {
    group: &'a str,
    policy: &'a str,
    /// Members whose predictions are in it.
    predicting: usize,
    members: usize,
    limit_bytes: u64,
    used_bytes: u64,
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
    fn of(group: &'a str, curves: &'a Answers<CurveResponse>, used: &Used) -> anyhow::Result<Self> {
        let answers = &curves.answers;
        let predicting = || answers.iter().filter(|answer| !answer.sizes.is_empty());
        let Some(most) = predicting().max_by_key(|answer| answer.requests) else {
            let sampled: u64 = answers.iter().map(|answer| answer.sampled).max().unwrap_or(0);
            let needed = answers.iter().map(|answer| answer.needed).max().unwrap_or(0);
            bail!(
                "{group}: not enough requests yet: {sampled} of {} sampled at the busiest member",
                thousands(needed)
            )
        };
        // While a new policy reaches the members, curves of the two policies are not mixed.
        let alike: Vec<_> = predicting().filter(|answer| answer.policy == most.policy).collect();
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
            predicting: alike.len(),
            members: curves.members,
            limit_bytes: alike.iter().map(|a| a.limit_bytes).sum(),
            used_bytes: alike.iter().filter_map(|a| used.get(&a.member)).sum(),
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
            "{}: {}, {} on {}, {} in use\nhit ratio {} of {} recent reads{}\n\nMEMORY\n",
            self.group,
            self.policy,
            bytes(self.limit_bytes),
            self.members(),
            percent(self.used_bytes, self.limit_bytes),
            ratio(self.actual),
            thousands(self.requests),
            if self.predicting < self.members { "\nthe rest has too few reads yet" } else { "" },
        );
        for &(size, predicted) in &self.sizes {
            let label = format!("{:>9} ×{:<5}", self.bytes_at(size), f64::from(size) / 100.0);
            let now = if size == 100 { " now" } else { "" };
            text += &bars.line(&label, &ratio(predicted), predicted, now);
        }
        text += "\nPOLICY, at the present size\n";
        let own = self.own();
        for &(policy, predicted) in &self.policies {
            let mark = match policy == self.policy {
                true => " now".to_owned(),
                false => format!(" {:+.1}", (predicted - own) * 100.0),
            };
            text += &bars.line(&format!("{policy:16}"), &ratio(predicted), predicted, &mark);
        }
        let [memory, policy] = self.reading();
        format!("{text}\n{memory}\n{policy}\n")
    }

    fn members(&self) -> String {
        let members = plural(self.members, "member");
        match self.predicting < self.members {
            true => format!("{} of {members}", self.predicting),
            false => members,
        }
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

    /// What the curve says about memory and about the policy.
    fn reading(&self) -> [String; 2] {
        let (own, half, twice) = (self.own(), self.at(50), self.at(200));
        let memory = if !self.is_full_enough() {
            let used = percent(self.used_bytes, self.limit_bytes);
            format!("{used} of the memory is in use, so another size cannot be judged yet")
        } else if own - half < NOTABLE {
            format!("half the memory would suffice: {} → {}", ratio(own), ratio(half))
        } else {
            format!("twice the memory: {} → {}", ratio(own), ratio(twice))
        };
        let policy = match self.best_rival() {
            Some((rival, gain)) if gain >= NOTABLE => {
                format!("{rival} at the present size: {:+.1} points", gain * 100.0)
            }
            _ => format!("no policy does better than {} at the present size", self.policy),
        };
        [memory, policy]
    }

    #[allow(clippy::cast_precision_loss, reason = "a share of memory")]
    fn is_full_enough(&self) -> bool {
        self.used_bytes as f64 >= self.limit_bytes as f64 * FULL_ENOUGH
    }

    fn json(&self) -> Value {
        let sizes = self.sizes.iter().map(|&(percent, hit_ratio)| {
            json!({
                "percent": percent, "bytes": self.limit_bytes / 100 * u64::from(percent),
                "hitRatio": hit_ratio,
            })
        });
        let policies = self
            .policies
            .iter()
            .map(|(policy, ratio)| json!({"policy": policy, "hitRatio": ratio}));
        json!({
            "group": self.group, "policy": self.policy, "members": self.members,
            "membersPredicting": self.predicting, "limitBytes": self.limit_bytes,
            "usedBytes": self.used_bytes, "requests": self.requests, "sampled": self.sampled,
            "memoryBytes": self.memory_bytes, "actualHitRatio": self.actual,
            "sizes": sizes.collect::<Vec<_>>(), "policies": policies.collect::<Vec<_>>(),
            "reading": self.reading().join("; "),
        })
    }
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

    fn used(bytes: u64) -> Used {
        Used::from([("shop-0".to_owned(), bytes), ("young".to_owned(), 99 << 20)])
    }

    fn curves(answers: impl Into<Vec<CurveResponse>>) -> Answers<CurveResponse> {
        let answers = answers.into();
        Answers { members: answers.len(), answers }
    }

    #[test]
    fn members_weigh_as_much_as_they_have_reads() {
        let curves = curves([
            answer(30_000, [0.4, 0.6, 0.8, 0.9, 0.95], 0.82),
            answer(10_000, [0.0, 0.2, 0.4, 0.5, 0.55], 0.42),
        ]);
        let merged = Merged::of("students", &curves, &used(9 << 19)).expect("old enough");
        assert_eq!(
            merged.text(Bars::plain(60)),
            "\
students: Lru, 12.0 MiB on 2 members, 75.0 % in use
hit ratio 70.0 % of 40,000 recent reads

MEMORY
  3.0 MiB ×0.25   30.0 %  ########
  6.0 MiB ×0.5    50.0 %  ##############
 12.0 MiB ×1      70.0 %  ################### now
 24.0 MiB ×2      80.0 %  ######################
 48.0 MiB ×4      85.0 %  #######################

POLICY, at the present size
S3Fifo            72.0 %  #################### +2.0
Lru               70.0 %  ################### now

twice the memory: 70.0 % → 80.0 %
S3Fifo at the present size: +2.0 points
"
        );
    }

    #[test]
    fn a_flat_curve_of_a_full_group_says_that_less_memory_would_suffice() {
        let curves = curves([answer(10, [0.7, 0.9, 0.9, 0.9, 0.9], 0.9)]);
        let merged = Merged::of("g", &curves, &used(6 << 20)).expect("old enough");
        assert_eq!(
            merged.reading(),
            [
                "half the memory would suffice: 90.0 % → 90.0 %",
                "no policy does better than Lru at the present size",
            ]
        );
    }

    #[test]
    fn a_flat_curve_of_an_empty_group_advises_nothing_about_memory() {
        let curves = curves([answer(10, [0.9; 5], 0.9)]);
        let merged = Merged::of("g", &curves, &used(6 << 10)).expect("old enough");
        assert_eq!(
            merged.reading(),
            [
                "0.1 % of the memory is in use, so another size cannot be judged yet",
                "no policy does better than Lru at the present size",
            ]
        );
    }

    #[test]
    fn members_with_too_few_reads_are_named_and_alone_are_an_error() {
        let young = CurveResponse {
            member: "young".into(),
            sampled: 120,
            needed: 1_000,
            ..CurveResponse::default()
        };
        let both = curves([young.clone(), answer(10, [0.1, 0.2, 0.3, 0.4, 0.5], 0.3)]);
        let merged = Merged::of("g", &both, &used(3 << 20)).expect("one predicts");
        let text = merged.text(Bars::plain(60));
        let head = "g: Lru, 6.0 MiB on 1 of 2 members, 50.0 % in use\n";
        assert!(text.starts_with(head), "{text}");
        assert!(text.contains("recent reads\nthe rest has too few reads yet\n"), "{text}");
        let error = Merged::of("g", &curves([young]), &used(0)).expect_err("too young");
        assert_eq!(
            error.to_string(),
            "g: not enough requests yet: 120 of 1,000 sampled at the busiest member"
        );
    }
}
