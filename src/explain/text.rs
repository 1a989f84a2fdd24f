//! An explanation as a tree, for a terminal.

use std::{collections::HashMap, fmt};

use uuid::Uuid;

use super::{Act, Effect, EffectState, Explanation, Happened, Outcome, Who};

/// An explanation, as people read it.
pub struct Told<'a>(pub &'a Explanation);

/// What follows from an event.
#[derive(Default)]
struct Following<'a> {
    acts: Vec<&'a Act>,
    effects: Vec<&'a Effect>,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation {
            order_id,
            number,
            status,
            position,
            commands,
            effects,
        } = self.0;
        let number = number.as_ref().map_or(String::new(), |number| format!(" {number}"));
        writeln!(f, "{order_id}{number} is {status}, as of position {position}")?;
        let mut following: HashMap<Uuid, Following<'_>> = HashMap::new();
        for event in commands.iter().flat_map(|act| &act.events) {
            following.entry(event.event_id).or_default();
        }
        let mut roots = Vec::new();
        for act in commands {
            match act.caused_by.and_then(|cause| following.get_mut(&cause)) {
                Some(cause) => cause.acts.push(act),
                None => roots.push(act),
            }
        }
        let mut others = Vec::new();
        for effect in effects {
            match effect.caused_by.and_then(|cause| following.get_mut(&cause)) {
                Some(cause) => cause.effects.push(effect),
                None => others.push(effect),
            }
        }
        for act in roots {
            writeln!(f, "\n{}", outside(act))?;
            events(f, act, "", &following)?;
        }
        for effect in others {
            writeln!(f, "\n{}", told(effect))?;
        }
        Ok(())
    }
}

/// The events of a command, each with what follows from it.
fn events(
    f: &mut fmt::Formatter<'_>,
    act: &Act,
    indent: &str,
    following: &HashMap<Uuid, Following<'_>>,
) -> fmt::Result {
    for event in &act.events {
        writeln!(f, "{indent}  {}", happened(event))?;
        follow(f, event, &format!("{indent}  "), following)?;
    }
    Ok(())
}

fn follow(
    f: &mut fmt::Formatter<'_>,
    event: &Happened,
    indent: &str,
    following: &HashMap<Uuid, Following<'_>>,
) -> fmt::Result {
    let Some(Following { acts, effects }) = following.get(&event.event_id) else {
        return Ok(());
    };
    let mut left = acts.len() + effects.len();
    for effect in effects {
        left -= 1;
        writeln!(f, "{indent}{}{}", branch(left), told(effect))?;
    }
    for act in acts {
        left -= 1;
        writeln!(f, "{indent}{}{}", branch(left), inside(act))?;
        let deeper = format!("{indent}{}", if left == 0 { "   " } else { "│  " });
        events(f, act, &deeper, following)?;
    }
    Ok(())
}

const fn branch(left: usize) -> &'static str {
    if left == 0 { "└─ " } else { "├─ " }
}

/// `order.placed ord_… #1 at 1235: A x 1, 39,000원`.
fn happened(event: &Happened) -> String {
    let facts = if event.facts.is_empty() {
        String::new()
    } else {
        format!(": {}", event.facts)
    };
    format!(
        "{} {} #{} at {}{facts}",
        event.event_type, event.aggregate_id, event.sequence, event.position
    )
}

/// What came from outside: when, who, how.
fn outside(act: &Act) -> String {
    let when = act.recorded_at.as_deref().unwrap_or("-");
    let who = act.by.as_ref().map_or_else(|| "nobody".to_owned(), who);
    let re_read = if act.re_read { ", PortOne was asked" } else { "" };
    format!("{when} {who}{re_read} (command {})", act.command_id)
}

fn who(who: &Who) -> String {
    let id = who.id.as_ref().map_or(String::new(), |id| format!(" {id}"));
    let request = who
        .request_id
        .as_ref()
        .map_or(String::new(), |id| format!(", request {id}"));
    format!("{}{id} by {}{request}", who.kind, who.channel)
}

/// What the process manager did.
fn inside(act: &Act) -> String {
    let step = act.step.as_deref().unwrap_or("command");
    let outcome = match act.outcome {
        Outcome::Done => String::new(),
        Outcome::ChangedNothing => ": there was nothing to do".to_owned(),
        Outcome::Pending => ": not done yet".to_owned(),
        Outcome::Failed => format!(": FAILED, {}", act.error.as_deref().unwrap_or("-")),
    };
    format!("{step}{outcome} (command {})", act.command_id)
}

fn told(effect: &Effect) -> String {
    let state = match effect.state {
        EffectState::Pending => "not set yet",
        EffectState::Waiting => "waits",
        EffectState::Over => "over",
        EffectState::Replaced => "set anew later",
    };
    let tried = if effect.attempts > 0 {
        format!(", tried {} times", effect.attempts)
    } else {
        String::new()
    };
    let why = effect
        .last_error
        .as_ref()
        .map_or(String::new(), |why| format!(": {why}"));
    format!("timer {} due {}: {state}{tried}{why}", effect.kind, effect.due_at)
}
