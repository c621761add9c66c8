//! One kernel source, one compiled copy for each instruction set.

/// Defines `$name(isa, …)`, which runs the generic `$generic` compiled for `isa`.
macro_rules! kernel {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $generic:ident $(::<$($param:tt),*>)?) => {
        $(#[$meta])*
        /// # Safety
        /// `isa` must come from [`Isa::detect`] (or be lower); slices must have the lengths stated above.
        pub(crate) unsafe fn $name(isa: Isa, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
            unsafe fn avx512($($arg: $type),*) $(-> $ret)? {
                // SAFETY: the features are enabled; the rest is the caller's promise.
                unsafe { $generic::<Avx512, 8 $($(, $param)*)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $type),*) $(-> $ret)? {
                // SAFETY: the features are enabled; the rest is the caller's promise.
                unsafe { $generic::<Avx2, 4 $($(, $param)*)?>($($arg),*) }
            }
            match isa {
                // SAFETY: the caller promises that the CPU has `isa`.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: needs no instruction set.
                _ => unsafe { $generic::<Portable, 4 $($(, $param)*)?>($($arg),*) },
            }
        }
    };
}
