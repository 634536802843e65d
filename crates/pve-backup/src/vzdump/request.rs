//! Asking for a backup: the checks, and the start of the task (reference 05 §12.1).

use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_schema::ids::{AuthId, NodeName, Upid};
use pve_schema::{Context, Params};
use pve_task::{Launcher, TaskRequest};

use super::VzdumpError;
use super::conf::Conf;
use super::given::Given;
use super::lock;
use super::options::{Merged, Target, check_notes_template, is_fleecing};
use super::rights;
use super::task::Vzdump;
use crate::selection::{Choice, Selection};

/// What a request led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There is nothing to do on this node: clients see the string `OK` **client-visible**.
    Nothing,
    /// A task does it.
    Started(Upid),
}

impl Answer {
    /// What a client sees.
    pub fn text(&self) -> String {
        match self {
            Self::Nothing => "OK".to_owned(),
            Self::Started(upid) => upid.to_string(),
        }
    }
}

/// Checks a request and starts its task. `params` are those of `POST /nodes/{node}/vzdump`; a `node` that is not this
/// one means that there is nothing to do here.
///
/// # Errors
/// What is wrong with the parameters, missing rights, and whatever keeps the task from starting.
pub fn request(
    context: &Context,
    access: &AccessControl,
    caller: &AuthId,
    request_id: &str,
    params: &Params,
) -> Result<Answer, VzdumpError> {
    if params.is_set("stdout") {
        return Err(VzdumpError::parameter(
            "stdout",
            "option is only allowed on the command line interface.",
        ));
    }
    let given = Given::from(params);
    let conf = Conf::load(context).options;
    let target = Merged {
        given: &given,
        conf: &conf,
    }
    .target()?;
    check_values(params)?;
    rights::check_options(access, caller, params, &[])?;
    if let (true, Target::Storage(storage)) = (params.has("prune-backups"), &target) {
        access.require_all(caller, &format!("/storage/{storage}"), &["Datastore.Allocate"])?;
    }
    let mut choice = Choice::of_params(params)?;
    choice.check()?;
    let node = &context.site.node;
    if choice.node.as_deref().is_some_and(|name| !is_here(node, name)) {
        return Ok(Answer::Nothing);
    }
    // Under whatever name the caller knows this node.
    choice.node = choice.node.map(|_| node.to_string());
    let selection = select(context, access, &choice)?;
    if choice.stop {
        access.require_all(caller, &format!("/nodes/{node}"), &["Sys.Modify"])?;
        lock::stop_running(context)?;
    }
    let attempted = selection.attempted_on(node);
    if attempted.is_empty() && !choice.all {
        return Ok(Answer::Nothing);
    }
    if let Target::Storage(storage) = &target {
        access.require_all(caller, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    }
    let id = match attempted.as_slice() {
        [single] => single.to_string(),
        _ => String::new(),
    };
    let task = Vzdump {
        given,
        attempted,
        elsewhere: selection.elsewhere(node),
    };
    let request = TaskRequest {
        worker_type: "vzdump".to_owned(),
        id,
        caller: caller.clone(),
        request_id: request_id.to_owned(),
    };
    Ok(Answer::Started(Launcher::start(context, request, &task)?))
}

/// What the parameters' schemas do not tell.
fn check_values(params: &Params) -> Result<(), VzdumpError> {
    if let Some(template) = params.text("notes-template") {
        check_notes_template(template)?;
    }
    if params.text("fleecing").is_some_and(is_fleecing) {
        return Err(VzdumpError::NotYet("backup fleecing"));
    }
    Ok(())
}

/// Whether a name is this node's.
fn is_here(node: &NodeName, name: &str) -> bool {
    name == node.as_str() || name == "localhost"
}

/// The guests that options select in this cluster.
///
/// # Errors
/// The options, or the cluster's files.
pub fn select(context: &Context, access: &AccessControl, choice: &Choice) -> Result<Selection, VzdumpError> {
    let guests = Cfs::new(context).guests()?;
    let members = |pool: &str| access.pools.get(pool).map(|pool| pool.vms.clone());
    Ok(choice.select(&guests, members)?)
}
