//! Modules that some engines run as one: their names belong to one family, so that a fused kernel is held against the parts it replaces.

/// Modules that are one where they are fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Family {
    /// Projections to queries, keys and values.
    Qkv,
    /// Gate and up projection with the activation between them.
    GateUp,
    /// Norms of the residual stream and the additions to it.
    Norm,
}

impl Family {
    /// As a number, for keys.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Qkv => 0,
            Self::GateUp => 1,
            Self::Norm => 2,
        }
    }
}

/// Family of a module by the last part of its path.
pub(super) fn family(module: &str) -> Option<Family> {
    let last = module.rsplit(['.', '/']).next().unwrap_or(module);
    let plain: String =
        last.chars().filter(char::is_ascii_alphanumeric).map(|next| next.to_ascii_lowercase()).collect();
    match plain.as_str() {
        "qproj" | "kproj" | "vproj" | "wq" | "wk" | "wv" | "qkvproj" | "wqkv" | "qkv" | "qkvgemm" | "querykeyvalue"
        | "cattn" | "kvproj" | "attnq" | "attnk" | "attnv" | "attnqkv" => Some(Family::Qkv),
        "gateproj" | "upproj" | "gateupproj" | "gateup" | "actfn" | "act" | "silumul" | "siluandmul" | "swiglu"
        | "ffngate" | "ffnup" | "ffngateup" => Some(Family::GateUp),
        "inputlayernorm"
        | "postattentionlayernorm"
        | "inputnorm"
        | "postnorm"
        | "prenorm"
        | "residual"
        | "addnorm"
        | "rmsnormresidual"
        | "residualadd" => Some(Family::Norm),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_family_meet_and_others_stay_apart() {
        for name in ["q_proj", "self_attn.k_proj", "layers.*.self_attn.qkv_proj", "attn_q", "c_attn"] {
            assert_eq!(family(name), Some(Family::Qkv), "{name}");
        }
        for name in ["mlp.gate_proj", "gate_up_proj", "act_fn", "ffn_up"] {
            assert_eq!(family(name), Some(Family::GateUp), "{name}");
        }
        for name in ["o_proj", "down_proj", "lm_head", "norm", "q_norm", "self_attn", ""] {
            assert_eq!(family(name), None, "{name}");
        }
    }
}
