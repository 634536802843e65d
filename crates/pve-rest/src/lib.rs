//! The REST framework: what a method handler gets and gives, and the path a request takes to it.
//!
//! | module | holds |
//! |---|---|
//! | [`call`] | a call as its handler sees it |
//! | [`reply`] | what a handler answers |
//! | [`error`] | the one error that reaches a client |
//! | [`registry`] | which handler runs which method of the contract |
//! | [`pipeline`] | the path from a request's head to its handler |

pub mod call;
pub mod error;
pub mod pipeline;
pub mod registry;
pub mod reply;

pub use call::Call;
pub use error::ApiError;
pub use pipeline::{Admitted, ForwardTo, Outcome, Pipeline, RequestHead, Role};
pub use registry::{Handler, Registry};
pub use reply::{Content, Download, Endpoint, Reply};

/// What a handler answers.
pub type ApiResult = Result<Reply, ApiError>;

/// Runs work that may block – files, locks, QMP, processes – off the connection's thread.
///
/// # Errors
/// The work's own error; 500 if the work panicked.
pub async fn blocking<T, E, F>(work: F) -> Result<T, ApiError>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Into<ApiError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(ApiError::plain("internal error: the request's worker died")),
    }
}
