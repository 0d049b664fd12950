//! What stands beside the energy of a window or a run: rails, idle power, what decisions cost, and how the machine was.

use std::fmt;

use crate::machine::State;
use crate::power::{Health, Idle, PerDecision, RailMean};

/// All of it; each part only where it is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Power {
    /// How the meter stood; `None` without a meter.
    pub health: Option<Health>,
    /// The idle power that was measured at the start.
    pub idle: Option<Idle>,
    /// Every rail by itself.
    pub rails: Vec<RailMean>,
    /// What a decision of each kind costs.
    pub per_decision: Option<PerDecision>,
    /// Power mode, clocks, heat, throttling.
    pub machine: Option<State>,
}

impl Power {
    /// What a status line has to add, from its separator on; empty while all is well.
    pub fn remarks(&self) -> String {
        let meter = match self.health {
            Some(health @ (Health::Constant(_) | Health::Silent(_))) => format!("; power meter {health}"),
            Some(Health::Good | Health::Failing) | None => String::new(),
        };
        match self.machine.as_ref().filter(|state| !state.limited_by.is_empty()) {
            Some(state) => format!("{meter}; clocks held back by {}", state.limited_by.join(", ")),
            None => meter,
        }
    }
}

/// The lines of a summary, each with a newline before it.
impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Idle { mean_mw, standard_error_mw, seconds }) = self.idle {
            write!(
                f,
                "\nidle       {mean_mw:.0} mW, standard error {standard_error_mw:.1} mW, over {seconds:.1} s before the first frame"
            )?;
        }
        if self.rails.len() > 1 {
            let rail = |rail: &RailMean| match rail.mean_mw {
                Some(mw) => format!("{} {mw:.0} mW", rail.name),
                None => format!("{} not measured", rail.name),
            };
            write!(f, "\nrails      {}", self.rails.iter().map(rail).collect::<Vec<_>>().join(", "))?;
        }
        if let Some(per_decision) = self.per_decision {
            write!(f, "\ndecisions  {per_decision}")?;
        }
        match &self.machine {
            Some(state) => write!(f, "\nmachine    {}", state.summary()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::power::Estimate;

    #[test]
    fn only_what_is_known_is_told() {
        assert_eq!((Power::default().to_string(), Power::default().remarks()), (String::new(), String::new()));
        let mut power = Power {
            health: Some(Health::Good),
            idle: Some(Idle { mean_mw: 2400.0, standard_error_mw: 4.2, seconds: 3.0 }),
            rails: vec![
                RailMean { name: "VDD_IN".to_owned(), mean_mw: Some(5000.0), energy_mj: Some(5000.0) },
                RailMean { name: "VDD_SOC".to_owned(), mean_mw: None, energy_mj: None },
            ],
            per_decision: Some(PerDecision {
                idle_mw: None,
                coarse_mj: Some(Estimate { value: 40.0, half_width: 3.0 }),
                fine_mj: Some(Estimate { value: 90.0, half_width: 80.0 }),
                static_mj: None,
                windows: 64,
            }),
            machine: Some(State { power_mode: Some("15W (mode 0)".to_owned()), ..State::default() }),
        };
        let text = power.to_string();
        for line in [
            "idle       2400 mW, standard error 4.2 mW, over 3.0 s before the first frame",
            "rails      VDD_IN 5000 mW, VDD_SOC not measured",
            "decisions  coarse exit 40.0 ± 3.0 mJ, fine not resolved (net of idling, 64 windows)",
            "machine    15W (mode 0)",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert_eq!(power.remarks(), "");
        power.health = Some(Health::Constant(Duration::from_secs(31)));
        if let Some(state) = &mut power.machine {
            state.limited_by.push("gpu-throttle-alert".to_owned());
        }
        assert_eq!(
            power.remarks(),
            "; power meter suspicious: constant for 31 s; clocks held back by gpu-throttle-alert"
        );
    }
}
