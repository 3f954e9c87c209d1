// Fibers, by a switch of stacks in assembly. This file and the scheduler are compiled without sanitizers.
#include "fiber.h"

#include <cstdint>
#include <cstdlib>

#ifdef EMULATOR_THREAD_SANITIZER
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned flags);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#endif
#ifdef EMULATOR_ADDRESS_SANITIZER
extern "C" {
void __sanitizer_start_switch_fiber(void** save_fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, size_t* old_size);
void __asan_unpoison_memory_region(const volatile void*, size_t);
}
#endif

// Saves the registers that a function must preserve on the stack and the stack pointer in `*save`; continues at `to`,
// which an earlier switch has saved or `start` has made.
extern "C" void emulator_switch(void** save, void* to);
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
constexpr int kSavedRegisters = 6;

namespace emulator {

#ifdef EMULATOR_ADDRESS_SANITIZER
constexpr size_t kStackBytes = 512 << 10;  // variables have gaps around them
#else
constexpr size_t kStackBytes = 64 << 10;
#endif

namespace {

struct Scheduler {
  void* stack_pointer = nullptr;
  void* thread = nullptr;
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  size_t stack_bytes = 0;
} scheduler;

std::vector<void*> finished_threads, released_memory;  // of this launch, under ThreadSanitizer
char end_of_launch;

void (*body_of_new_fiber)() = nullptr;

void run_body() {
#ifdef EMULATOR_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack_bottom, &scheduler.stack_bytes);
#endif
  body_of_new_fiber();
  abort();  // a body ends with `finish`
}

}  // namespace

Fiber::~Fiber() { free(stack_); }

void Fiber::start(void (*body)()) {
  body_of_new_fiber = body;
#ifdef EMULATOR_THREAD_SANITIZER
  if (stack_) release(stack_), finished_threads.push_back(thread_), stack_ = nullptr;
#endif
  if (!stack_) stack_ = static_cast<char*>(malloc(kStackBytes));
#ifdef EMULATOR_THREAD_SANITIZER
  thread_ = __tsan_create_fiber(0);  // after the allocation, which happens before all that the fiber does
#endif
#ifdef EMULATOR_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(stack_, kStackBytes);
#endif
  // The stack as `emulator_switch` leaves it: saved registers, then the address to return to. When a function starts,
  // the stack pointer is 8 below a multiple of 16.
  auto top = reinterpret_cast<uintptr_t>(stack_ + kStackBytes) & ~uintptr_t{15};
  auto** frame = reinterpret_cast<void**>(top) - 2;
  *frame = reinterpret_cast<void*>(&run_body);
  stack_pointer_ = frame - kSavedRegisters;
}

void Fiber::resume() {
#ifdef EMULATOR_THREAD_SANITIZER
  scheduler.thread = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(thread_, 1);  // 1: this switch orders nothing
#endif
#ifdef EMULATOR_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&scheduler.fake_stack, stack_, kStackBytes);
#endif
  emulator_switch(&scheduler.stack_pointer, stack_pointer_);
#ifdef EMULATOR_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(scheduler.fake_stack, nullptr, nullptr);
#endif
}

void Fiber::leave(bool for_good) {
  (void)for_good;
#ifdef EMULATOR_THREAD_SANITIZER
  if (for_good) __tsan_release(&end_of_launch);
  __tsan_switch_to_fiber(scheduler.thread, 1);
#endif
#ifdef EMULATOR_ADDRESS_SANITIZER
  void** save = for_good ? nullptr : &fake_stack_;
  __sanitizer_start_switch_fiber(save, scheduler.stack_bottom, scheduler.stack_bytes);
#endif
  emulator_switch(&stack_pointer_, scheduler.stack_pointer);
#ifdef EMULATOR_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::pause() { leave(false); }

void Fiber::finish() {
  leave(true);
  abort();  // a finished fiber is not resumed
}

void release(void* memory) {
#ifdef EMULATOR_THREAD_SANITIZER
  released_memory.push_back(memory);
#else
  free(memory);
#endif
}

void forget_finished_fibers() {
#ifdef EMULATOR_THREAD_SANITIZER
  __tsan_acquire(&end_of_launch);
  for (void* memory : released_memory) free(memory);
  for (void* thread : finished_threads) __tsan_destroy_fiber(thread);
#endif
  released_memory.clear(), finished_threads.clear();
}

void order_before(void* point) {
  (void)point;
#ifdef EMULATOR_THREAD_SANITIZER
  __tsan_release(point);
#endif
}

void order_after(void* point) {
  (void)point;
#ifdef EMULATOR_THREAD_SANITIZER
  __tsan_acquire(point);
#endif
}

}  // namespace emulator
