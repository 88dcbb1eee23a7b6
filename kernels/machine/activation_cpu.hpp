// Activations of network layers on the CPU machine.
//
// This tanh is the network's, not the simulators': fused multiply-adds and a refined reciprocal estimate, so its last
// bits depend on the instruction set. tanh(x) ~ x P(x^2) / Q(x^2) with x clamped to +-6.5; P and Q are minimax fits of
// degree 3 made for this file. Largest absolute error 4e-6, all of it beyond the clamp; |result| < 1; NaN stays NaN.
#pragma once

#include "kernels/api.hpp"
#include "kernels/machine/pack.hpp"

namespace perilune::inline PERILUNE_LEVEL {

/// p / q for normal q: to about 1 ulp where the machine has a reciprocal estimate, else correctly rounded.
PERILUNE_HD Pack fast_divide(Pack p, Pack q) {
#if defined(__AVX512F__)
  const Pack r((FloatVector)_mm512_rcp14_ps((__m512)q.value));
#elif defined(__AVX2__)
  const Pack r((FloatVector)_mm256_rcp_ps((__m256)q.value));
#endif
#if defined(__AVX2__)
  const Pack quotient = p * r;
  return mul_add(mul_add(-q, quotient, p), r, quotient);
#else
  return p / q;
#endif
}

PERILUNE_HD Pack network_tanh(Pack x) {
  const float limit = 6.5f;
  const Pack y = max(Pack(-limit), min(Pack(limit), x));
  const Pack z = y * y;
  Pack p = mul_add(z, 4.276020627425676e-06f, 2.3491734695386644e-03f);
  p = mul_add(p, z, 0.12382980452628123f);
  p = mul_add(p, z, 0.999999418482893f);
  Pack q = mul_add(z, 1.5023603029305917e-04f, 2.1408152752746917e-02f);
  q = mul_add(q, z, 0.45715854045844384f);
  q = mul_add(q, z, 1.0f);
  return fast_divide(y * p, q);
}

#if defined(__AVX512F__)
/// For results that are rounded to bf16, which may cost 2^-8 of them: x P(x^2) / Q(x^2) of degrees 1 and 2, a minimax
/// fit over |x| <= 3.6 to the error relative to max(|tanh x|, 1/4), below 2.5e-4 with the reciprocal's. Beyond, tanh
/// rounds to 1.
PERILUNE_HD Pack short_tanh(Pack x) {
  const float limit = 3.6f;
  const Pack y = max(Pack(-limit), min(Pack(limit), x));
  const Pack z = y * y;
  const Pack p = mul_add(z, 0.0845601067f, 0.9996969f);
  const Pack q = mul_add(mul_add(z, 0.00690468173f, 0.416459303f), z, 1.0f);
  return (y * p) * Pack((FloatVector)_mm512_rcp14_ps((__m512)q.value));
}
#endif

PERILUNE_HD Pack activate_value(Pack x, Activation activation) {
  return activation == Activation::kTanh ? network_tanh(x) : max(Pack(0.0f), x);
}
/// d(loss)/d(x), given d(loss)/d(y) and y = activate_value(x).
PERILUNE_HD Pack activation_derivative(Pack dy, Pack y, Activation activation) {
  return activation == Activation::kTanh ? dy * mul_add(-y, y, Pack(1.0f)) : select(y > Pack(0.0f), dy, Pack(0.0f));
}

}  // namespace perilune::inline PERILUNE_LEVEL
