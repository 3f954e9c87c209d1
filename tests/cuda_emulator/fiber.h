// Fibers: functions that run on stacks of their own and pause in the middle, all in one thread of the system.
//
// A CUDA thread becomes a fiber. Switching takes a few nanoseconds, and nothing runs at the same time, so the scheduler
// alone decides which CUDA thread continues. The sanitizers are informed of every switch: AddressSanitizer of the new
// stack, and ThreadSanitizer, for which each fiber is a thread, without any order between the two sides of a switch.
#pragma once
#include <cstddef>
#include <vector>

namespace emulator {

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  ~Fiber();

  // Prepares a run of `body`, which must end with `finish`. An earlier run need not have ended: it is given up, and
  // objects on its stack are not destroyed.
  void start(void (*body)());

  void resume();  // called by the scheduler; returns when the fiber pauses or finishes
  void pause();   // called by the fiber itself
  [[noreturn]] void finish();

 private:
  void leave(bool for_good);

  char* stack_ = nullptr;
  void* stack_pointer_ = nullptr;
  void* thread_ = nullptr;      // ThreadSanitizer's name for it
  void* fake_stack_ = nullptr;  // AddressSanitizer's copies of its local variables
};

// Between the launches of a kernel: ThreadSanitizer orders all that the kernel's threads did before what follows, and
// the memory of their stacks is free again. Within a launch no stack is reused under ThreadSanitizer, because the
// stack of a new fiber would seem to race with an earlier one.
void forget_finished_fibers();

// Memory that is released by `forget_finished_fibers` under ThreadSanitizer, for the same reason, and else at once.
void release(void* memory);

// What orders memory, for ThreadSanitizer only: everything before `order_before(point)` happens before everything after
// a later `order_after(point)`.
void order_before(void* point);
void order_after(void* point);

}  // namespace emulator
