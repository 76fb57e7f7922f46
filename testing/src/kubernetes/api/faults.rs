//! Faults of calls, by plan. Calls are counted from 0; watches are not counted.

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is answered.
    Works,
    /// It has no effect and is answered with this status.
    IsRefused(u16),
    /// It has no effect and no answer.
    NeverArrives,
    /// It has its effect and no answer.
    LosesItsReply,
}

/// When the caller dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Before call n has any effect.
    Before(usize),
    /// After call n had its effect, before the caller hears of it.
    After(usize),
}

/// The plan of faults.
#[derive(Debug, Default)]
pub struct Faults {
    count: usize,
    death: Option<Death>,
    is_dead: bool,
    refusals: Vec<(String, u16, usize)>,
    lost: Vec<usize>,
}

impl Faults {
    /// The caller dies once: every later call fails until there is a new plan.
    pub fn death(death: Death) -> Self {
        Self { death: Some(death), ..Self::default() }
    }

    /// The next `times` calls whose summary holds `text` are answered with `code`.
    pub fn refuse(mut self, text: &str, code: u16, times: usize) -> Self {
        self.refusals.push((text.to_owned(), code, times));
        self
    }

    /// The reply of call n is lost; the caller lives on.
    pub fn lose_reply(mut self, call: usize) -> Self {
        self.lost.push(call);
        self
    }

    /// Whether the caller has died.
    pub fn has_crashed(&self) -> bool {
        self.is_dead
    }

    /// Decides about the next call.
    pub fn next(&mut self, summary: &str) -> Effect {
        let call = self.count;
        self.count += 1;
        if self.is_dead {
            return Effect::NeverArrives;
        }
        match self.death {
            Some(Death::Before(at)) if at == call => {
                self.is_dead = true;
                return Effect::NeverArrives;
            }
            Some(Death::After(at)) if at == call => {
                self.is_dead = true;
                return Effect::LosesItsReply;
            }
            _ => {}
        }
        if self.lost.contains(&call) {
            return Effect::LosesItsReply;
        }
        let refusal = self.refusals.iter_mut().find(|(text, _, times)| *times > 0 && summary.contains(text.as_str()));
        refusal.map_or(Effect::Works, |(_, code, times)| {
            *times -= 1;
            Effect::IsRefused(*code)
        })
    }
}
