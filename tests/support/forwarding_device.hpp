// A device that is another one but for what a test changes: the CPU with two threads.
#pragma once

#include "host/device/device.hpp"

namespace perilune::test {

class ForwardingDevice : public Device {
 public:
  const Machine& machine() const override { return inner_->machine(); }
  std::string description() const override { return inner_->description(); }
  bool is_cuda() const override { return false; }
  bool supports(Precision precision) const override { return inner_->supports(precision); }
  Queue& queue() override { return inner_->queue(); }
  MatrixLibrary& matrix_library(Precision precision) override { return inner_->matrix_library(precision); }
  std::size_t free_memory() const override { return inner_->free_memory(); }
  std::size_t max_block_storage() const override { return inner_->max_block_storage(); }
  void* allocate(std::size_t bytes) override { return inner_->allocate(bytes); }
  void release(void* memory) override { inner_->release(memory); }
  void* allocate_shared(std::size_t bytes) override { return inner_->allocate_shared(bytes); }
  void release_shared(void* memory) override { inner_->release_shared(memory); }
  void upload(void* to, const void* from, std::size_t bytes) override { inner_->upload(to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) override { inner_->download(to, from, bytes); }
  void synchronize() override { inner_->synchronize(); }
  std::unique_ptr<Recording> record(std::function<void(Queue&)> enqueue, bool graph) override {
    return inner_->record(std::move(enqueue), graph);
  }

 private:
  std::unique_ptr<Device> inner_ = select_device(DeviceChoice::kCpu, 2).device;
};

}  // namespace perilune::test
