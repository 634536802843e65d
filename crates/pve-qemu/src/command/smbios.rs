//! What the guest's firmware tells about the machine (reference 06a §7.1, row 7).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::builder::Builder;
use super::error::CommandError;

/// Adds `-smbios type=1,…`.
pub(super) fn add(builder: &mut Builder<'_>) -> Result<(), CommandError> {
    let Some(smbios) = builder.request.vm.props("smbios1")? else {
        return Ok(());
    };
    let encoded = smbios.flag("base64").unwrap_or(false);
    let mut argument = "type=1".to_owned();
    for (name, value) in smbios
        .iter()
        .filter(|(name, value)| *name != "base64" && !value.is_empty())
    {
        let decoded = if encoded && name != "uuid" {
            STANDARD.decode(value).ok()
        } else {
            None
        };
        let text = decoded.map_or_else(
            || value.to_owned(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        );
        argument.push_str(&format!(",{name}={}", text.replace(',', ",,")));
    }
    builder.fixed(["-smbios", &argument]);
    Ok(())
}
