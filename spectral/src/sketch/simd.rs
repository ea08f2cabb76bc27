//! Run-time choice of the instruction set: one portable kernel, compiled several times.

use pulp::NullaryFnOnce;

/// An instruction set this machine has. Hidden: only tests and benchmarks choose one, everyone else gets the best.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct SimdPath(Token);

// The tokens of `pulp` are the proof that the machine has the features, so no path can run where it would fault.
#[derive(Clone, Copy, Debug)]
enum Token {
    Portable,
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    V4(pulp::x86::V4),
}

impl SimdPath {
    /// Every path this machine can run, slowest first; `portable` (the target's baseline) is always there.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut paths = vec![Self(Token::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            paths.extend(pulp::x86::V3::try_new().map(|token| Self(Token::V3(token))));
            paths.extend(pulp::x86::V4::try_new().map(|token| Self(Token::V4(token))));
        }
        paths
    }

    /// The fastest path of this machine.
    #[must_use]
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(token) = pulp::x86::V4::try_new() {
                return Self(Token::V4(token));
            }
            if let Some(token) = pulp::x86::V3::try_new() {
                return Self(Token::V3(token));
            }
        }
        Self(Token::Portable)
    }

    /// `portable`, `x86-64-v3` (AVX2) or `x86-64-v4` (AVX-512).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Token::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Token::V3(_) => "x86-64-v3",
            #[cfg(target_arch = "x86_64")]
            Token::V4(_) => "x86-64-v4",
        }
    }

    /// Runs `op` compiled for this instruction set. `op.call` and all it calls in its loops must be `#[inline(always)]`.
    pub fn run<Op: NullaryFnOnce>(self, op: Op) -> Op::Output {
        match self.0 {
            Token::Portable => op.call(),
            #[cfg(target_arch = "x86_64")]
            Token::V3(token) => token.vectorize(op),
            #[cfg(target_arch = "x86_64")]
            Token::V4(token) => token.vectorize(op),
        }
    }
}
