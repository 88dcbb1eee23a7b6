// The native module perilune._native: what the package's Python files are written on, not for
// users. Everything that takes long runs without the interpreter lock.
#include <new>

#include "host/base/error.hpp"
#include "tools/python/bindings/bindings.hpp"

namespace nb = nanobind;
using namespace perilune;

NB_MODULE(_native, module) {
  module.doc() = "The compiled half of perilune; use the functions of the package instead.";
  // The texts are the command line's. nanobind asks the last one registered first.
  const nb::exception<Error> error(module, "Error", PyExc_RuntimeError);
  const nb::exception<NoDeviceError> no_device(module, "NoDeviceError", error.ptr());
  const nb::exception<OutOfMemoryError> out_of_memory(module, "OutOfMemoryError", error.ptr());
  const nb::exception<UsageError> usage(module, "UsageError", PyExc_ValueError);
  error.attr("__doc__") = "What failed though it was asked for rightly: files, devices, training that diverged.";
  no_device.attr("__doc__") = "The device that was asked for is not there.";
  out_of_memory.attr("__doc__") = "The device has less memory left than is needed.";
  usage.attr("__doc__") = "What was asked for is not possible; the text says what is allowed.";
  python::bind_tables(module);
  python::bind_arrays(module);
  python::bind_vector_env(module);
  python::bind_policy(module);
  python::bind_training(module);
}
