// See arrays.hpp.
#include "tools/python/bindings/arrays.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <numeric>
#include <utility>

#include "host/base/error.hpp"
#include "host/base/format.hpp"
#include "host/base/text.hpp"

namespace perilune::python {
namespace {

// Whole cache lines, and a pack's width to read past the end.
constexpr std::size_t kAlignment = 64;

std::size_t count_of(const std::vector<std::size_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

const char* name_of(ArrayType type) {
  switch (type) {
    case ArrayType::kFloat32:
      return "float32";
    case ArrayType::kFloat64:
      return "float64";
    case ArrayType::kInt32:
      return "int32";
    case ArrayType::kInt64:
      return "int64";
    case ArrayType::kBool:
      break;
  }
  return "bool";
}

// As the package's Python code shows values (_arguments.py).
std::string shown(nb::handle value) {
  return nb::cast<std::string>(nb::module_::import_("perilune._arguments").attr("shown")(value));
}

void* legacy_stream() { return reinterpret_cast<void*>(std::intptr_t{1}); }  // NOLINT: CUDA's own handle

// The stream of a DLPack exchange: none and 1 are CUDA's legacy default stream, 2 the thread's own,
// others handles; nothing for -1, no synchronisation.
std::optional<void*> stream_of(nb::handle stream) {
  std::intptr_t value = 1;
  if (!stream.is_none() && (PyBool_Check(stream.ptr()) || !nb::try_cast(stream, value) || value == 0)) {
    throw nb::value_error(
        formatted("stream = {} is none - allowed: None, -1 (no synchronisation), 1, 2 or a stream's handle",
                  shown(stream))
            .c_str());
  }
  if (value == -1) return std::nullopt;
  return reinterpret_cast<void*>(value);  // NOLINT: what the protocol says
}

}  // namespace

nb::dlpack::dtype dlpack_type(ArrayType type) {
  switch (type) {
    case ArrayType::kFloat32:
      return nb::dtype<float>();
    case ArrayType::kFloat64:
      return nb::dtype<double>();
    case ArrayType::kInt32:
      return nb::dtype<std::int32_t>();
    case ArrayType::kInt64:
      return nb::dtype<std::int64_t>();
    case ArrayType::kBool:
      break;
  }
  return nb::dtype<bool>();
}

std::size_t bytes_of(ArrayType type) { return dlpack_type(type).bits / 8; }

std::string shape_text(const std::vector<std::size_t>& shape) {
  return formatted("({}{})", joined(shape), shape.size() == 1 ? "," : "");
}

NumpyPool::NumpyPool(std::vector<std::size_t> shape, ArrayType type)
    : shape_(std::move(shape)), type_(type), bytes_(count_of(shape_) * bytes_of(type)) {}

NumpyPool::Taken NumpyPool::make() const {
  const std::size_t padded = (bytes_ / kAlignment + 2) * kAlignment;
  void* data = std::aligned_alloc(kAlignment, padded);
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, padded);
  // Views refer to this array and not to its owner, which is no array: its reference count tells of
  // all of them.
  const nb::capsule owner(data, [](void* memory) noexcept { std::free(memory); });
  return {nb::cast(nb::ndarray<nb::numpy>(data, shape_.size(), shape_.data(), owner, nullptr, dlpack_type(type_)),
                   nb::rv_policy::reference),
          data};
}

NumpyPool::Taken NumpyPool::take(bool zeroed) {
  for (Taken& kept : kept_) {  // the first that is free was written last, and may still be in a cache
    if (!kept.array.is_valid()) return kept = make();
    if (Py_REFCNT(kept.array.ptr()) > 1) continue;
    if (zeroed) std::memset(kept.data, 0, bytes_);
    return kept;
  }
  Taken& forgotten = kept_[next_];
  next_ = (next_ + 1) % kKept;
  return forgotten = make();
}

void SharedDevice::wait_for_readers() {
  for (void* stream : readers) device->wait_for_stream(stream);
}

DeviceMemory::DeviceMemory(std::shared_ptr<SharedDevice> owner, std::size_t size)
    : device(std::move(owner)), data(device->device->allocate(std::max<std::size_t>(size, 1))), bytes(size) {}

DeviceMemory::~DeviceMemory() { device->device->release(data); }

nb::tuple DeviceArray::dlpack_device() const {
  return nb::make_tuple(is_cuda() ? nb::device::cuda::value : nb::device::cpu::value, 0);
}

nb::object DeviceArray::dlpack(nb::handle stream, nb::kwargs arguments) const {
  if (is_cuda()) {
    if (const std::optional<void*> reader = stream_of(stream)) {
      memory_->device->device->signal_stream(*reader);
      memory_->device->readers.insert(*reader);
    }
  } else if (!stream.is_none()) {
    throw nb::value_error("stream has no meaning for an array on the CPU - leave it out");
  }
  // nanobind makes the capsule; it keeps the memory, and not this object.
  auto* keep = new std::shared_ptr<DeviceMemory>(memory_);
  const nb::capsule owner(keep,
                          [](void* pointer) noexcept { delete static_cast<std::shared_ptr<DeviceMemory>*>(pointer); });
  const nb::object array = nb::cast(
      nb::ndarray<nb::array_api>(memory_->data, shape_.size(), shape_.data(), owner, nullptr, dlpack_type(type_),
                                 is_cuda() ? nb::device::cuda::value : nb::device::cpu::value, 0),
      nb::rv_policy::reference);
  return array.attr("__dlpack__")(**arguments);
}

nb::object DeviceArray::numpy() const {
  const nb::object result = nb::module_::import_("numpy").attr("empty")(shape(), nb::str(name_of(type_)));
  Py_buffer view{};
  if (PyObject_GetBuffer(result.ptr(), &view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) != 0) throw nb::python_error();
  {
    nb::gil_scoped_release unlocked;
    memory_->device->device->download(view.buf, memory_->data, memory_->bytes);
  }
  PyBuffer_Release(&view);
  return result;
}

nb::tuple DeviceArray::shape() const {
  nb::list list;
  for (const std::size_t size : shape_) list.append(size);
  return nb::tuple(list);
}

nb::str DeviceArray::dtype() const { return nb::str(name_of(type_)); }

DevicePool::DevicePool(std::shared_ptr<SharedDevice> device, std::vector<std::size_t> shape, ArrayType type)
    : device_(std::move(device)), shape_(std::move(shape)), type_(type), bytes_(count_of(shape_) * bytes_of(type)) {}

DevicePool::Taken DevicePool::take() {
  const auto is_free = [](const auto& kept) { return kept.use_count() <= 1; };
  auto chosen = std::find_if(kept_.begin(), kept_.end(), is_free);
  if (chosen == kept_.end()) {
    chosen = kept_.begin() + static_cast<std::ptrdiff_t>(next_);
    next_ = (next_ + 1) % kKept;
    chosen->reset();
  }
  if (!*chosen) *chosen = std::make_shared<DeviceMemory>(device_, bytes_);
  return {nb::cast(DeviceArray(*chosen, shape_, type_)), (*chosen)->data};
}

InputArray::InputArray(InputArray&& other) noexcept
    : shape(std::move(other.shape)),
      kind(other.kind),
      item(other.item),
      data(other.data),
      on_cuda(other.on_cuda),
      owner(std::move(other.owner)),
      buffer(std::exchange(other.buffer, Py_buffer{})) {}

InputArray::~InputArray() {
  if (buffer.obj != nullptr) PyBuffer_Release(&buffer);
}

namespace {

char kind_of(const char* format) {
  if (format == nullptr) return 'u';
  if (*format == '@' || *format == '=' || *format == '<') ++format;  // little-endian, as this machine is
  if (*format == '\0' || format[1] != '\0') return '?';
  if (std::strchr("bhilqn", *format) != nullptr) return 'i';
  if (std::strchr("BHILQN", *format) != nullptr) return 'u';
  if (std::strchr("efdg", *format) != nullptr) return 'f';
  return *format == '?' ? 'b' : '?';
}

// Nothing for bytes, which are text to NumPy, and for numbers in another byte order.
bool read_buffer(nb::handle value, InputArray& array) {
  if (PyBytes_Check(value.ptr())) return false;
  if (PyObject_GetBuffer(value.ptr(), &array.buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0) {
    PyErr_Clear();
    array.buffer.obj = nullptr;
    return false;
  }
  if (array.buffer.format != nullptr && (*array.buffer.format == '>' || *array.buffer.format == '!')) {
    PyBuffer_Release(&array.buffer);
    return false;
  }
  array.shape.assign(array.buffer.shape, array.buffer.shape + array.buffer.ndim);
  array.kind = kind_of(array.buffer.format);
  array.item = static_cast<std::size_t>(array.buffer.itemsize);
  array.data = array.buffer.buf;
  return true;
}

bool is_on_cuda(nb::handle value) {
  if (!nb::hasattr(value, "__dlpack_device__")) return false;
  return nb::cast<int>(value.attr("__dlpack_device__")()[0]) == nb::device::cuda::value;
}

void read_cuda(nb::handle value, SharedDevice& device, const char* what, InputArray& array) {
  if (!device.device->is_cuda()) {
    throw nb::type_error(
        formatted("{} lie on a GPU - this runs on the CPU - move them there, or use device=\"cuda\"", what).c_str());
  }
  // The producer lets CUDA's legacy default stream wait for it, and this queue waits for that.
  using namespace nb::literals;
  const nb::object capsule = value.attr("__dlpack__")("stream"_a = 1);
  device.device->wait_for_stream(legacy_stream());
  auto tensor = nb::cast<nb::ndarray<nb::ro>>(capsule);
  std::int64_t expected = 1;
  for (std::size_t i = tensor.ndim(); i-- > 0; expected *= static_cast<std::int64_t>(tensor.shape(i))) {
    if (tensor.shape(i) > 1 && tensor.stride(i) != expected) {
      throw nb::value_error(formatted("{} are not contiguous - pass x.contiguous()", what).c_str());
    }
  }
  for (std::size_t i = 0; i < tensor.ndim(); ++i) array.shape.push_back(tensor.shape(i));
  const auto code = static_cast<nb::dlpack::dtype_code>(tensor.dtype().code);
  array.kind = code == nb::dlpack::dtype_code::Int     ? 'i'
               : code == nb::dlpack::dtype_code::UInt  ? 'u'
               : code == nb::dlpack::dtype_code::Float ? 'f'
               : code == nb::dlpack::dtype_code::Bool  ? 'b'
                                                       : '?';
  array.item = tensor.dtype().bits / 8;
  array.data = tensor.data();
  array.on_cuda = true;
  array.owner = nb::cast(std::move(tensor));
}

}  // namespace

InputArray read_array(nb::handle value, SharedDevice& device, const char* what) {
  InputArray array;
  if (read_buffer(value, array)) return array;
  if (is_on_cuda(value)) {
    read_cuda(value, device, what, array);
    return array;
  }
  using namespace nb::literals;
  const nb::module_ numpy = nb::module_::import_("numpy");
  const bool only_dlpack = nb::hasattr(value, "__dlpack__") && !nb::hasattr(value, "__array__");
  try {
    array.owner =
        numpy.attr("asarray")(only_dlpack ? numpy.attr("from_dlpack")(value) : nb::borrow(value), "order"_a = "C");
    array.owner = array.owner.attr("astype")(array.owner.attr("dtype").attr("newbyteorder")("="), "copy"_a = false);
  } catch (const nb::python_error& error) {
    if (!error.matches(PyExc_TypeError) && !error.matches(PyExc_ValueError) && !error.matches(PyExc_OverflowError))
      throw;
    array.owner.reset();
  }
  if (!array.owner.is_valid() || !read_buffer(array.owner, array)) {
    throw nb::type_error(formatted("{} = {} are no array of numbers - pass a NumPy array", what, shown(value)).c_str());
  }
  return array;
}

void finish_reading(const InputArray& array, SharedDevice& device) {
  if (array.on_cuda) device.device->signal_stream(legacy_stream());
}

void bind_arrays(nb::module_& module) {
  using namespace nb::literals;
  nb::class_<DeviceArray>(module, "DeviceArray",
                          "An array in a device's memory, for any library that takes DLPack "
                          "arrays: torch.from_dlpack(x), "
                          "jax.dlpack.from_dlpack(x), cupy.from_dlpack(x). Nothing is copied, and "
                          "the device is not waited "
                          "for, until numpy() is called.")
      .def(
          "__dlpack__",
          [](const DeviceArray& array, nb::handle stream, nb::kwargs arguments) {
            return array.dlpack(stream, std::move(arguments));
          },
          "stream"_a.none() = nb::none(), "kwargs"_a,
          nb::sig("def __dlpack__(self, stream: int | None = None, **kwargs: object) -> object"),
          "A DLPack capsule. What `stream` holds from now on runs after what was enqueued here "
          "(DLPack's numbers: None or 1 "
          "the legacy default stream, 2 the thread's, -1 no ordering).")
      .def("__dlpack_device__", &DeviceArray::dlpack_device, nb::sig("def __dlpack_device__(self) -> tuple[int, int]"))
      .def("numpy", &DeviceArray::numpy, nb::sig("def numpy(self) -> numpy.ndarray"),
           "A copy as a NumPy array; waits for the device.")
      .def(
          "__array__",
          [](const DeviceArray& array, nb::handle dtype, nb::handle copy) {
            if (copy.ptr() == Py_False) {
              throw nb::value_error(
                  "copy = False is not possible - allowed: None, True - without a copy use "
                  "numpy.from_dlpack, for an array on the CPU");
            }
            const nb::object copied = array.numpy();
            return dtype.is_none() ? copied : nb::object(copied.attr("astype")(dtype));
          },
          "dtype"_a.none() = nb::none(), "copy"_a.none() = nb::none(),
          nb::sig("def __array__(self, dtype: object = None, copy: object = None) -> numpy.ndarray"))
      .def_prop_ro("shape", &DeviceArray::shape, nb::sig("def shape(self) -> tuple[int, ...]"))
      .def_prop_ro("dtype", &DeviceArray::dtype, nb::sig("def dtype(self) -> str"))
      .def_prop_ro("device", &DeviceArray::device);
}

}  // namespace perilune::python
