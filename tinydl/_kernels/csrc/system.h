/* system.h: what the workers ask of the operating system: the time, and to wait.
 *
 * td_clock        nanoseconds of a clock that only goes forward (the one that engine.clock gives to Python)
 * td_yield        lets another thread have this CPU
 * td_nap          sleeps for about 50 microseconds; on Windows, where the shortest sleep is some hundred times as long, it yields
 * td_sleep        sleeps while *at is `value`, until td_wake or for 50 ms; where threads cannot sleep so, it naps
 * td_wake         wakes all that sleep there
 */
#ifndef TD_SYSTEM_H
#define TD_SYSTEM_H
#include <stdint.h>
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <sched.h>
#include <time.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#if defined(_WIN32)
static inline int64_t td_clock(void) {
    LARGE_INTEGER ticks, second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&second);
    return ticks.QuadPart / second.QuadPart * 1000000000 + ticks.QuadPart % second.QuadPart * 1000000000 / second.QuadPart;
}
static inline void td_yield(void) { SwitchToThread(); }
static inline void td_nap(void) { SwitchToThread(); }
static inline void td_sleep(int32_t *at, int32_t value) { WaitOnAddress(at, &value, sizeof value, 50); }
static inline void td_wake(int32_t *at) { WakeByAddressAll(at); }
#else
static inline int64_t td_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
static inline void td_yield(void) { sched_yield(); }
static inline void td_nap(void) {
    const struct timespec nap = {0, 50000};
    nanosleep(&nap, 0);
}
#if defined(__linux__)
static inline void td_sleep(int32_t *at, int32_t value) {
    const struct timespec most = {0, 50000000};
    syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, value, &most, 0, 0);
}
static inline void td_wake(int32_t *at) { syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, INT32_MAX, 0, 0, 0); }
#else
static inline void td_sleep(int32_t *at, int32_t value) {
    if (__atomic_load_n(at, __ATOMIC_ACQUIRE) == value) td_nap();
}
static inline void td_wake(int32_t *at) { (void)at; }
#endif
#endif

/* never returns: what is left for a thread to do in a process whose interpreter has ended */
static inline void td_rest(void) {
#if defined(_WIN32)
    for (;;) Sleep(INFINITE);
#else
    const struct timespec nap = {3600, 0};
    for (;;) nanosleep(&nap, 0);
#endif
}
#endif
