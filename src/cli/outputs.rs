//! From settings to what is told to other programs while a run goes on.

use std::any::Any;
use std::sync::Arc;

use crate::config::Settings;
#[cfg(feature = "mqtt")]
use crate::config::StateFolder;
use crate::error::Result;
use crate::examples::Shelf;
use crate::guard::Promises;
use crate::operator::{Board, EventsSocket, Facts, Feed, Lines};
use crate::pipeline::{Observer, Pipeline};

/// Everything that tells, until it is dropped.
#[derive(Default)]
pub struct Outputs(Vec<Box<dyn Any>>);

/// Starts what `settings` ask for and gives `pipeline` the observers that feed it. Nobody can go below the threshold that one of the
/// `promises` rests on. Onlookers may put examples on the shelf, where there is one.
///
/// # Errors
/// [`crate::error::Kind::Config`] where a secret cannot be read, or a network could reach the page and there is no token.
pub fn start(
    pipeline: &mut Pipeline,
    settings: &Settings,
    (facts, shelf): (Facts, Option<Arc<Shelf>>),
    promises: Promises,
) -> Result<Outputs> {
    warn_of_missing(settings);
    let mut board = Board::new(facts);
    board.examples = shelf;
    board.promises = promises;
    let board = Arc::new(board);
    let (lines, subscribe) = Lines::new(Arc::clone(&board));
    let mut observers: Vec<Box<dyn Observer>> = Vec::new();
    let mut outputs = Outputs::default();

    #[cfg(any(feature = "web", feature = "mqtt", feature = "webhook"))]
    {
        let tasks = tasks(&board, settings, &subscribe, &mut observers)?;
        if let Some((stopper, tasks)) = tasks {
            let host = crate::operator::host::Host::start(Arc::clone(&board), stopper, tasks);
            outputs.keep(host);
        }
    }
    if let Some(path) = &settings.events.socket {
        outputs.keep(EventsSocket::start(Arc::clone(&board), path, subscribe));
    }
    if !outputs.0.is_empty() {
        observers.push(Box::new(lines));
        // The last word on thresholds is the operator's.
        observers.push(Box::new(Feed::new(board)));
        pipeline.observers.append(&mut observers);
    }
    Ok(outputs)
}

impl Outputs {
    fn keep<T: Any>(&mut self, output: Option<T>) {
        self.0.extend(output.map(|output| Box::new(output) as Box<dyn Any>));
    }
}

#[cfg(any(feature = "web", feature = "mqtt", feature = "webhook"))]
type Tasks = (crate::operator::host::Stopper, Vec<crate::operator::host::Task>);

/// What shares one thread; `None` where nothing does. The webhook adds what it observes.
#[cfg(any(feature = "web", feature = "mqtt", feature = "webhook"))]
#[cfg_attr(
    not(all(feature = "mqtt", feature = "webhook")),
    allow(clippy::ptr_arg, unused_variables, reason = "only MQTT subscribes, and only the webhook observes")
)]
fn tasks(
    board: &Arc<Board>,
    settings: &Settings,
    subscribe: &crate::operator::Subscribe,
    observers: &mut Vec<Box<dyn Observer>>,
) -> Result<Option<Tasks>> {
    let (stopper, stopping) = crate::operator::host::stop();
    let mut tasks = Vec::new();
    #[cfg(feature = "web")]
    if settings.web.enabled {
        tasks.extend(crate::operator::web::start(Arc::clone(board), &settings.web, stopping.clone())?);
    }
    #[cfg(feature = "webhook")]
    if let Some((task, labels)) = crate::operator::webhook::start(board, &settings.webhook, stopping.clone())? {
        tasks.push(task);
        observers.push(labels);
    }
    #[cfg(feature = "mqtt")]
    {
        let place = (super::serve::state_folder(&StateFolder::Service), subscribe);
        tasks.extend(crate::operator::mqtt::start(Arc::clone(board), &settings.mqtt, place, stopping)?);
    }
    Ok((!tasks.is_empty()).then_some((stopper, tasks)))
}

/// Says what is configured and not built in.
fn warn_of_missing(settings: &Settings) {
    let missing = [
        ("mqtt.broker", settings.mqtt.broker.is_some(), cfg!(feature = "mqtt"), "mqtt"),
        ("webhook.url", settings.webhook.url.is_some(), cfg!(feature = "webhook"), "webhook"),
    ];
    for (key, wanted, built, feature) in missing {
        if wanted && !built {
            log::warn!("{key} has no effect: this cfvit was built without its feature {feature}");
        }
    }
}
