/* cpu.h: which instruction sets this processor has and this build holds, and where a thread runs. */
#ifndef TD_CPU_H
#define TD_CPU_H
#include "td.h"
/* i = 0, 1, ... from the widest down; NULL after the last. *usable: the processor can run it. */
const td_kernels *td_isa(int i, int *usable);
/* the CPU that the calling thread runs on, or -1 where the system does not say */
int td_cpu(void);
#endif
