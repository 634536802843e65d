//! OpenTelemetry's protocol over HTTP, as JSON (reference 04 §16.6).
//!
//! | module | holds |
//! |---|---|
//! | here | requests, and how many metrics are in one |
//! | `metric` | a figure as a metric |
//! | `name` | whether a figure counts up, and its unit |

mod metric;
mod name;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::config::Otlp;
use super::{Origin, Thing, things};
use crate::snapshot::Snapshot;

use metric::{Attribute, Metrics};

/// So many metrics say how large one is.
const SAMPLE: usize = 10;
/// Metrics are of different sizes: a batch is planned as if they were larger by a fifth.
const MARGIN: f64 = 1.2;

/// The bodies of requests, compressed if the server takes that.
pub(super) fn encode(settings: &Otlp, origin: &Origin, snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let metrics = metrics(origin, snapshot);
    if metrics.is_empty() {
        return Vec::new();
    }
    let envelope = Envelope::new(settings, origin);
    let body = |metrics: &[String]| envelope.close(metrics);
    let whole = body(&metrics);
    if whole.len() <= settings.largest {
        return vec![whole];
    }
    drop(whole);
    let sample = metrics.get(..SAMPLE).unwrap_or(&metrics);
    let many = batch_size(settings.largest, body(sample).len(), sample.len());
    let mut bodies = Vec::new();
    for batch in metrics.chunks(many) {
        let together = body(batch);
        if together.len() <= settings.largest || batch.len() == 1 {
            bodies.push(together);
        } else {
            bodies.extend(batch.iter().map(|metric| body(std::slice::from_ref(metric))));
        }
    }
    bodies
}

/// The body of a request that tells nothing, to try a server.
pub(super) fn nothing(settings: &Otlp) -> Vec<u8> {
    compressed(settings, br#"{"resourceMetrics":[]}"#)
}

/// How many metrics fit into a request, going by some whose request has so many bytes.
fn batch_size(largest: usize, sample_bytes: usize, sample: usize) -> usize {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes of requests are far from the limits of a double"
    )]
    let many = (largest as f64 / (MARGIN * sample_bytes as f64 / sample as f64)) as usize;
    many.max(1)
}

/// All metrics of a snapshot, each as its JSON text.
fn metrics(origin: &Origin, snapshot: &Snapshot) -> Vec<String> {
    let mut metrics = Metrics::new(snapshot.time);
    let node = Attribute::new("node", origin.node.as_str());
    for (thing, object) in things(&snapshot.objects) {
        match thing {
            Thing::Node => {
                metrics.add("proxmox_node", object, std::slice::from_ref(&node));
                let interfaces = object.get("nics").and_then(|nics| nics.as_object());
                for (name, interface) in interfaces.into_iter().flatten() {
                    if let Some(interface) = interface.as_object() {
                        let attributes = [node.clone(), Attribute::new("device", name)];
                        metrics.add("proxmox_node_network", interface, &attributes);
                    }
                }
            }
            Thing::Guest(kind, vmid) => {
                let name = object.get("name").and_then(|name| name.as_str()).unwrap_or_default();
                let attributes = [
                    Attribute::new("vmid", &vmid.to_string()),
                    node.clone(),
                    Attribute::new("name", name),
                    Attribute::new("type", kind),
                ];
                metrics.add("proxmox_vm", object, &attributes);
            }
            Thing::Storage(id) => {
                let attributes = [node.clone(), Attribute::new("storage", id.as_str())];
                metrics.add("proxmox_storage", object, &attributes);
            }
        }
    }
    metrics.finish()
}

/// What is around the metrics of a request.
struct Envelope<'a> {
    settings: &'a Otlp,
    head: String,
}

impl<'a> Envelope<'a> {
    fn new(settings: &'a Otlp, origin: &Origin) -> Self {
        let own = [
            Attribute::new("service.name", "proxmox-ve"),
            Attribute::new("service.version", &origin.version),
            Attribute::new("proxmox.cluster", origin.cluster.as_deref().unwrap_or("single-node")),
            Attribute::new("proxmox.node", origin.node.as_str()),
        ];
        let extra = settings.attributes.iter().map(|(key, text)| Attribute::new(key, text));
        let attributes: Vec<Attribute> = own.into_iter().chain(extra).collect();
        let attributes = json!(attributes);
        Self {
            settings,
            head: format!(
                r#"{{"resourceMetrics":[{{"resource":{{"attributes":{attributes}}},"scopeMetrics":[{{"scope":{{}},"metrics":["#
            ),
        }
    }

    /// The body of a request with these metrics.
    fn close(&self, metrics: &[String]) -> Vec<u8> {
        let text = format!("{}{}]}}]}}]}}", self.head, metrics.join(","));
        compressed(self.settings, text.as_bytes())
    }
}

fn compressed(settings: &Otlp, body: &[u8]) -> Vec<u8> {
    if !settings.is_compressed {
        return body.to_vec();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}
