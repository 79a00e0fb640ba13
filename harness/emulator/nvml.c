/*
 * An NVML whose sensors are computed from a known power waveform, for tests and benchmarks.
 *
 * NEVER install this where a real driver is: it is meant to be found through LD_LIBRARY_PATH
 * by one command and its children. It reads one world file, named by JOULEMARK_EMULATOR or,
 * failing that, `world.txt` beside this library; without one there is "no driver".
 *
 * Every reading is a function of the world and of CLOCK_MONOTONIC alone, so all processes
 * see one world, and harness/emulator/model.py can compute the same numbers.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define MAX_GPUS 16
#define MAX_FAULTS 64
#define MAX_THROTTLES 64
#define MAX_MIG 7
#define MAX_PROCESSES 64

enum {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    TIMEOUT = 10,
    GPU_IS_LOST = 15,
    RESET_REQUIRED = 16,
    LIB_RM_VERSION_MISMATCH = 18,
    UNKNOWN = 999
};

/* What a call touches; a fault names the classes it breaks. */
enum { STATIC = 0, ENERGY = 1, POWER = 2, OTHER = 4, PROCESSES = 8 };
enum { SCOPE_GPU = 0, SCOPE_MODULE = 1, SCOPE_MEMORY = 2 };
enum { FIELD_AVERAGE = 185, FIELD_INSTANT = 186 };

/* ---- the world -------------------------------------------------------------------------- */

typedef struct {
    long n, room;
    int64_t *t_ns; /* starts of the segments, relative to the origin; t_ns[0] = 0 */
    double *p0_w, *p1_w, *prefix_j;
    int64_t period_ns; /* 0: not repeated, the last segment holds for ever */
    char live[PATH_MAX];
    int64_t live_offset;
} Wave;

typedef struct {
    int64_t window_ns, period_ns, phase_ns;
} Sampled;

struct gpu;

typedef struct {
    struct gpu *parent;
    char uuid[96];
} Mig;

typedef struct gpu {
    unsigned index, architecture, major, minor;
    char name[96], uuid[96], pci[32], serial[32];
    uint64_t seed, memory_bytes, memory_used_bytes;
    unsigned limit_mw, limit_min_mw, limit_max_mw, limit_default_mw;
    unsigned sm_mhz, sm_max_mhz, memory_mhz;
    double counter_gain, power_gain, noise_mw, counter_base_mj, quantum_mj;
    int64_t tick_ns, tick_phase_ns, lag_ns, jitter_ns;
    int counter_scope, usage_field, c2c;
    Sampled instant, average;
    double memory_ratio, module_extra_w; /* < 0: the scope does not answer */
    int memory_instant;
    unsigned migs;
    int mig_power_parent;
    Mig mig[MAX_MIG];
    Wave wave;
} Gpu;

typedef struct {
    int gpu; /* -1: all */
    char kind[24];
    int64_t start_ns, end_ns;
    int touches;
} Fault;

typedef struct {
    int gpu;
    uint64_t reason;
    int64_t start_ns, end_ns;
} Throttle;

static struct {
    int loaded;
    int64_t origin_ns, power_latency_ns, energy_latency_ns;
    int spin;
    int cuda_version;
    char driver[80], nvml[80], processes[PATH_MAX];
    unsigned gpus, faults, throttles;
    Gpu gpu[MAX_GPUS];
    Fault fault[MAX_FAULTS];
    Throttle throttle[MAX_THROTTLES];
} world;

static int references;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

API const char joulemark_nvml_emulator[] = "joulemark NVML emulator, world format 1";

static int64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int complain(const char *what, const char *where)
{
    fprintf(stderr, "joulemark NVML emulator: %s: %s\n", where, what);
    return UNKNOWN;
}

static void grow(Wave *w)
{
    if (w->n < w->room)
        return;
    w->room = w->room ? 2 * w->room : 64;
    w->t_ns = realloc(w->t_ns, w->room * sizeof *w->t_ns);
    w->p0_w = realloc(w->p0_w, w->room * sizeof(double));
    w->p1_w = realloc(w->p1_w, w->room * sizeof(double));
    w->prefix_j = realloc(w->prefix_j, w->room * sizeof(double));
    if (!w->t_ns || !w->p0_w || !w->p1_w || !w->prefix_j)
        abort();
}

static void append(Wave *w, int64_t t_ns, double p0_w, double p1_w)
{
    grow(w);
    long i = w->n++;
    w->t_ns[i] = t_ns;
    w->p0_w[i] = p0_w;
    w->p1_w[i] = p1_w;
    w->prefix_j[i] = 0;
    if (i) {
        double length_s = (double)(t_ns - w->t_ns[i - 1]) * 1e-9;
        w->prefix_j[i] = w->prefix_j[i - 1] + 0.5 * (w->p0_w[i - 1] + w->p1_w[i - 1]) * length_s;
    }
}

static int read_segments(FILE *f, Wave *w, long count)
{
    for (long i = 0; i < count; i++) {
        long long t;
        double p0, p1;
        if (fscanf(f, "%lld %lf %lf", &t, &p0, &p1) != 3)
            return 0;
        append(w, t, p0, p1);
    }
    return 1;
}

/* The rest of a line, without the blank before and the newline behind. */
static void text(FILE *f, char *to, size_t room)
{
    char line[PATH_MAX + 16];
    if (!fgets(line, sizeof line, f))
        line[0] = 0;
    line[strcspn(line, "\n")] = 0;
    snprintf(to, room, "%s", line + strspn(line, " "));
}

static int read_gpu(FILE *f, Gpu *g, const char *key)
{
    long long a = 0, b = 0, c = 0, d = 0;
    if (!strcmp(key, "name"))
        return text(f, g->name, sizeof g->name), 1;
    if (!strcmp(key, "uuid"))
        return text(f, g->uuid, sizeof g->uuid), 1;
    if (!strcmp(key, "pci"))
        return text(f, g->pci, sizeof g->pci), 1;
    if (!strcmp(key, "serial"))
        return text(f, g->serial, sizeof g->serial), 1;
    if (!strcmp(key, "seed"))
        return fscanf(f, "%lld", &a) == 1 && (g->seed = (uint64_t)a, 1);
    if (!strcmp(key, "architecture"))
        return fscanf(f, "%u %u %u", &g->architecture, &g->major, &g->minor) == 3;
    if (!strcmp(key, "memory_bytes"))
        return fscanf(f, "%lld %lld", &a, &b) == 2 && (g->memory_bytes = a, g->memory_used_bytes = b, 1);
    if (!strcmp(key, "limit_mw"))
        return fscanf(f, "%u %u %u %u", &g->limit_mw, &g->limit_min_mw, &g->limit_max_mw,
                      &g->limit_default_mw) == 4;
    if (!strcmp(key, "clocks_mhz"))
        return fscanf(f, "%u %u %u", &g->sm_mhz, &g->sm_max_mhz, &g->memory_mhz) == 3;
    if (!strcmp(key, "gain"))
        return fscanf(f, "%lf %lf %lf", &g->counter_gain, &g->power_gain, &g->noise_mw) == 3;
    if (!strcmp(key, "counter")) {
        if (fscanf(f, "%lld %lld %lld %lld %lf %lf %d", &a, &b, &c, &d, &g->quantum_mj,
                   &g->counter_base_mj, &g->counter_scope) != 7 || a <= 0 || g->quantum_mj <= 0)
            return 0;
        g->tick_ns = a, g->tick_phase_ns = b, g->lag_ns = c, g->jitter_ns = d;
        return 1;
    }
    if (!strcmp(key, "instant") || !strcmp(key, "average")) {
        Sampled *s = key[0] == 'i' ? &g->instant : &g->average;
        if (fscanf(f, "%lld %lld %lld", &a, &b, &c) != 3 || a < 0 || b <= 0)
            return 0;
        s->window_ns = a, s->period_ns = b, s->phase_ns = c;
        return 1;
    }
    if (!strcmp(key, "usage_field"))
        return fscanf(f, "%d", &g->usage_field) == 1;
    if (!strcmp(key, "scopes"))
        return fscanf(f, "%lf %d %lf %d", &g->memory_ratio, &g->memory_instant, &g->module_extra_w,
                      &g->c2c) == 4;
    if (!strcmp(key, "mig"))
        return fscanf(f, "%u %d", &g->migs, &g->mig_power_parent) == 2 && g->migs <= MAX_MIG;
    if (!strcmp(key, "segments"))
        return fscanf(f, "%lld %lld", &a, &b) == 2 && (g->wave.period_ns = b, read_segments(f, &g->wave, a));
    if (!strcmp(key, "live")) {
        double idle_w;
        if (fscanf(f, "%lf", &idle_w) != 1)
            return 0;
        append(&g->wave, 0, idle_w, idle_w);
        return text(f, g->wave.live, sizeof g->wave.live), 1;
    }
    return 0;
}

static int read_world(FILE *f)
{
    char key[64];
    int version;
    long long a, b;
    Gpu *g = NULL;
    if (fscanf(f, "joulemark-emulator %d", &version) != 1 || version != 1)
        return 0;
    while (fscanf(f, "%63s", key) == 1) {
        int ok;
        if (!strcmp(key, "origin_ns"))
            ok = fscanf(f, "%lld", &a) == 1, world.origin_ns = a;
        else if (!strcmp(key, "latency_ns"))
            ok = fscanf(f, "%lld %lld %d", &a, &b, &world.spin) == 3, world.power_latency_ns = a,
            world.energy_latency_ns = b;
        else if (!strcmp(key, "driver_version"))
            text(f, world.driver, sizeof world.driver), ok = 1;
        else if (!strcmp(key, "nvml_version"))
            text(f, world.nvml, sizeof world.nvml), ok = 1;
        else if (!strcmp(key, "cuda_version"))
            ok = fscanf(f, "%d", &world.cuda_version) == 1;
        else if (!strcmp(key, "processes_file"))
            text(f, world.processes, sizeof world.processes), ok = 1;
        else if (!strcmp(key, "fault")) {
            Fault *x = &world.fault[world.faults];
            ok = world.faults < MAX_FAULTS &&
                 fscanf(f, "%d %23s %lld %lld %d", &x->gpu, x->kind, &a, &b, &x->touches) == 5;
            if (ok)
                x->start_ns = a, x->end_ns = b, world.faults++;
        } else if (!strcmp(key, "throttle")) {
            Throttle *x = &world.throttle[world.throttles];
            long long reason;
            ok = world.throttles < MAX_THROTTLES &&
                 fscanf(f, "%d %lld %lld %lld", &x->gpu, &reason, &a, &b) == 4;
            if (ok)
                x->reason = reason, x->start_ns = a, x->end_ns = b, world.throttles++;
        } else if (!strcmp(key, "gpu")) {
            ok = world.gpus < MAX_GPUS;
            if (ok) {
                g = &world.gpu[world.gpus];
                g->index = world.gpus++;
            }
        } else
            ok = g && read_gpu(f, g, key);
        if (!ok)
            return 0;
    }
    for (unsigned i = 0; i < world.gpus; i++) {
        g = &world.gpu[i];
        if (!g->wave.n || !g->tick_ns || !g->instant.period_ns || !g->average.period_ns)
            return 0;
        for (unsigned m = 0; m < g->migs; m++) {
            g->mig[m].parent = g;
            snprintf(g->mig[m].uuid, sizeof g->mig[m].uuid, "MIG-%.34s%02x", g->uuid + 4, m);
        }
    }
    return world.gpus > 0;
}

static int load_world(void)
{
    char path[PATH_MAX];
    const char *named = getenv("JOULEMARK_EMULATOR");
    if (world.loaded)
        return OK;
    if (named && *named) {
        snprintf(path, sizeof path, "%s", named);
    } else {
        Dl_info info;
        if (!dladdr((void *)joulemark_nvml_emulator, &info) || !info.dli_fname)
            return DRIVER_NOT_LOADED;
        const char *slash = strrchr(info.dli_fname, '/');
        int folder = slash ? (int)(slash - info.dli_fname) : 0;
        snprintf(path, sizeof path, "%.*s%sworld.txt", folder, info.dli_fname, slash ? "/" : "");
    }
    FILE *f = fopen(path, "re");
    if (!f)
        return named ? (complain(strerror(errno), path), DRIVER_NOT_LOADED) : DRIVER_NOT_LOADED;
    int ok = read_world(f);
    fclose(f);
    if (!ok)
        return complain("not a world file of format 1", path);
    world.loaded = 1;
    return OK;
}

/* ---- the true power, and the sensors on it ------------------------------------------------ */

static int64_t floor_div(int64_t a, int64_t b)
{
    int64_t q = a / b;
    return (a % b && (a < 0) != (b < 0)) ? q - 1 : q;
}

/* A live file is 16-byte records: int64 CLOCK_MONOTONIC ns, double watts from then on. */
static void follow(Wave *w)
{
    struct {
        int64_t t_ns;
        double power_w;
    } record;
    int fd = open(w->live, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* not begun yet: the idle power holds */
    while (pread(fd, &record, sizeof record, w->live_offset) == sizeof record) {
        w->live_offset += sizeof record;
        int64_t t_ns = record.t_ns - world.origin_ns;
        if (t_ns > w->t_ns[w->n - 1])
            append(w, t_ns, record.power_w, record.power_w);
    }
    close(fd);
}

/* Joules from the origin to *t_ns* (CLOCK_MONOTONIC), at the scope of the GPU. */
static double wave_energy_j(Wave *w, int64_t t_ns)
{
    int64_t r = t_ns - world.origin_ns;
    double whole_j = 0;
    if (w->live[0])
        pthread_mutex_lock(&lock), follow(w);
    if (w->period_ns) {
        int64_t turns = floor_div(r, w->period_ns);
        r -= turns * w->period_ns;
        double last_s = (double)(w->period_ns - w->t_ns[w->n - 1]) * 1e-9;
        double turn_j = w->prefix_j[w->n - 1] + 0.5 * (w->p0_w[w->n - 1] + w->p1_w[w->n - 1]) * last_s;
        whole_j = (double)turns * turn_j;
    }
    long low = 0, high = w->n; /* the last segment that starts at or before r */
    while (high - low > 1) {
        long middle = (low + high) / 2;
        if (w->t_ns[middle] <= r)
            low = middle;
        else
            high = middle;
    }
    double s = (double)(r - w->t_ns[low]) * 1e-9;
    double p0 = w->p0_w[low], p = p0;
    int64_t end_ns = low + 1 < w->n ? w->t_ns[low + 1] : w->period_ns;
    if (end_ns > w->t_ns[low]) /* else: the last one, for ever */
        p = p0 + (w->p1_w[low] - p0) * (s / ((double)(end_ns - w->t_ns[low]) * 1e-9));
    if (r < 0)
        p = p0;
    double energy_j = whole_j + (w->prefix_j[low] + 0.5 * (p0 + p) * s);
    if (w->live[0])
        pthread_mutex_unlock(&lock);
    return energy_j;
}

static double energy_j(Gpu *g, int scope, int64_t t_ns)
{
    double e = wave_energy_j(&g->wave, t_ns);
    if (scope == SCOPE_MODULE && g->module_extra_w > 0)
        e = e + g->module_extra_w * ((double)(t_ns - world.origin_ns) * 1e-9);
    if (scope == SCOPE_MEMORY)
        e = e * g->memory_ratio;
    return e;
}

/* Uniform in [-1, 1), the same for the same seed, stream and k: splitmix64. */
static double noise(uint64_t seed, uint64_t stream, int64_t k)
{
    uint64_t z = seed + stream * 0xD1342543DE82EF95u + (uint64_t)k * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z = z ^ (z >> 31);
    return (double)(z >> 11) * 0x1p-52 - 1.0;
}

static int hits(const Fault *x, const Gpu *g, const char *kind, int64_t t_ns)
{
    int64_t r = t_ns - world.origin_ns;
    return (x->gpu < 0 || x->gpu == (int)g->index) && !strcmp(x->kind, kind) && r >= x->start_ns &&
           r < x->end_ns;
}

/* While frozen the sensors stay at the instant the fault began. */
static int64_t sensor_time_ns(const Gpu *g, int64_t t_ns)
{
    for (unsigned i = 0; i < world.faults; i++)
        if (hits(&world.fault[i], g, "freeze", t_ns))
            return world.fault[i].start_ns + world.origin_ns;
    return t_ns;
}

static int64_t tick_at_ns(const Gpu *g, int64_t k)
{
    double shift = g->jitter_ns ? (double)g->jitter_ns * noise(g->seed, 1, k) : 0.0;
    return world.origin_ns + g->tick_phase_ns + k * g->tick_ns + (int64_t)floor(shift);
}

static int64_t last_tick_ns(const Gpu *g, int64_t t_ns)
{
    int64_t k = floor_div(t_ns - world.origin_ns - g->tick_phase_ns, g->tick_ns) + 1;
    while (tick_at_ns(g, k) > t_ns)
        k--;
    return tick_at_ns(g, k);
}

static double counter_mj(Gpu *g, int64_t t_ns)
{
    int64_t at_ns = sensor_time_ns(g, t_ns);
    int64_t seen_ns = last_tick_ns(g, at_ns) - g->lag_ns;
    int64_t reset_ns = INT64_MIN;
    double scale = g->counter_gain * 1000.0, mj;
    for (unsigned i = 0; i < world.faults; i++) {
        const Fault *x = &world.fault[i];
        if (!strcmp(x->kind, "reset") && (x->gpu < 0 || x->gpu == (int)g->index)) {
            int64_t r = x->start_ns + world.origin_ns;
            if (r <= at_ns && r > reset_ns)
                reset_ns = r;
        }
    }
    if (reset_ns == INT64_MIN)
        mj = g->counter_base_mj + scale * energy_j(g, g->counter_scope, seen_ns);
    else
        mj = scale * (energy_j(g, g->counter_scope, seen_ns) - energy_j(g, g->counter_scope, reset_ns));
    if (mj < 0)
        mj = 0;
    return floor(mj / g->quantum_mj) * g->quantum_mj;
}

static double power_mw(Gpu *g, int field, int scope, int64_t t_ns)
{
    const Sampled *s = field == FIELD_INSTANT ? &g->instant : &g->average;
    if (!s->window_ns)
        return NAN;
    int64_t at_ns = sensor_time_ns(g, t_ns);
    int64_t k = floor_div(at_ns - world.origin_ns - s->phase_ns, s->period_ns);
    int64_t end_ns = world.origin_ns + s->phase_ns + k * s->period_ns;
    int64_t start_ns = end_ns - s->window_ns;
    double mean_w = (energy_j(g, scope, end_ns) - energy_j(g, scope, start_ns)) /
                    ((double)s->window_ns * 1e-9);
    double mw = mean_w * g->power_gain * 1000.0;
    if (g->noise_mw > 0)
        mw = mw + g->noise_mw * noise(g->seed, (uint64_t)field, k);
    mw = floor(mw + 0.5);
    return mw < 0 ? 0 : mw;
}

/* What the tests and `joulemark emulate truth` ask; no NVML. */

API int joulemark_emulated_load(void)
{
    pthread_mutex_lock(&lock);
    int code = load_world();
    pthread_mutex_unlock(&lock);
    return code;
}

API double joulemark_emulated_true_energy_j(unsigned gpu, int scope, int64_t start_ns, int64_t end_ns)
{
    if (joulemark_emulated_load() || gpu >= world.gpus)
        return NAN;
    Gpu *g = &world.gpu[gpu];
    return energy_j(g, scope, end_ns) - energy_j(g, scope, start_ns);
}

API double joulemark_emulated_counter_mj(unsigned gpu, int64_t t_ns)
{
    return joulemark_emulated_load() || gpu >= world.gpus ? NAN : counter_mj(&world.gpu[gpu], t_ns);
}

API double joulemark_emulated_power_mw(unsigned gpu, int field, int scope, int64_t t_ns)
{
    return joulemark_emulated_load() || gpu >= world.gpus ? NAN
                                                         : power_mw(&world.gpu[gpu], field, scope, t_ns);
}

/* ---- a call: handle, faults, latency ------------------------------------------------------ */

static void wait_until(int64_t t_ns)
{
    if (world.spin) {
        while (now_ns(CLOCK_MONOTONIC) < t_ns)
            ;
        return;
    }
    struct timespec t = {t_ns / 1000000000, t_ns % 1000000000};
    /* A client whose timers are exact already (1 ns; 0 in a real-time class) is left alone. */
    int slack_ns = prctl(PR_GET_TIMERSLACK);
    if (slack_ns > 1)
        prctl(PR_SET_TIMERSLACK, 1);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
    if (slack_ns > 1)
        prctl(PR_SET_TIMERSLACK, slack_ns);
}

static Gpu *of_handle(const void *handle, Mig **mig)
{
    *mig = NULL;
    for (unsigned i = 0; i < world.gpus; i++) {
        Gpu *g = &world.gpu[i];
        if (handle == g)
            return g;
        for (unsigned m = 0; m < g->migs; m++)
            if (handle == &g->mig[m]) {
                *mig = &g->mig[m];
                return g;
            }
    }
    return NULL;
}

static int fault_code(const Fault *x)
{
    static const struct {
        const char *kind;
        int code;
    } codes[] = {{"lost", GPU_IS_LOST},         {"not_supported", NOT_SUPPORTED},
                 {"no_permission", NO_PERMISSION}, {"timeout", TIMEOUT},
                 {"reset_required", RESET_REQUIRED}, {"driver_mismatch", LIB_RM_VERSION_MISMATCH},
                 {"unknown", UNKNOWN}};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (!strcmp(x->kind, codes[i].kind))
            return codes[i].code;
    return OK;
}

/* The first fault at *t_ns* that breaks calls of this class on this GPU (NULL: on the system). */
static int fault_at(const Gpu *g, int touches, int64_t t_ns)
{
    int64_t r = t_ns - world.origin_ns;
    for (unsigned i = 0; i < world.faults; i++) {
        const Fault *x = &world.fault[i];
        if (r < x->start_ns || r >= x->end_ns || !fault_code(x))
            continue;
        if (!g) {
            if (fault_code(x) == LIB_RM_VERSION_MISMATCH)
                return LIB_RM_VERSION_MISMATCH;
            continue;
        }
        if (x->gpu >= 0 && x->gpu != (int)g->index)
            continue;
        if (!strcmp(x->kind, "lost") || !strcmp(x->kind, "driver_mismatch") || (x->touches & touches))
            return fault_code(x);
    }
    return OK;
}

static int64_t stalled_until_ns(const Gpu *g, int64_t t_ns)
{
    for (unsigned i = 0; i < world.faults; i++)
        if (hits(&world.fault[i], g, "stall", t_ns))
            return world.fault[i].end_ns + world.origin_ns;
    return t_ns;
}

/*
 * Begin a call: find the GPU, be slow, fail as scheduled. *t_ns* is the instant the answer
 * is of: the middle of the call.
 */
static int enter(const void *handle, int touches, Gpu **g, Mig **mig, int64_t *t_ns)
{
    if (references <= 0)
        return UNINITIALIZED;
    *g = of_handle(handle, mig);
    if (!*g)
        return INVALID_ARGUMENT;
    int64_t begin_ns = now_ns(CLOCK_MONOTONIC), latency_ns = 0;
    if (touches & (POWER | OTHER | PROCESSES))
        latency_ns += world.power_latency_ns;
    if (touches & ENERGY)
        latency_ns += world.energy_latency_ns;
    if (touches) {
        int64_t free_ns = stalled_until_ns(*g, begin_ns);
        if (free_ns > begin_ns)
            begin_ns = free_ns;
        else
            free_ns = 0;
        if (latency_ns || free_ns)
            wait_until(begin_ns + latency_ns);
    }
    *t_ns = begin_ns + latency_ns / 2;
    int code = fault_at(*g, touches, *t_ns);
    if (code)
        return code;
    if (*mig && !(*g)->mig_power_parent && (touches & (ENERGY | POWER)))
        return NOT_SUPPORTED;
    return OK;
}

#define ENTER(handle, touches)                                                                     \
    Gpu *g;                                                                                        \
    Mig *mig;                                                                                      \
    int64_t t_ns;                                                                                  \
    int entered = enter(handle, touches, &g, &mig, &t_ns);                                         \
    (void)t_ns;                                                                                    \
    (void)mig;                                                                                     \
    if (entered)                                                                                   \
    return entered

static int give_text(char *to, unsigned room, const char *what)
{
    if (strlen(what) + 1 > room)
        return INSUFFICIENT_SIZE;
    strcpy(to, what);
    return OK;
}

/* ---- NVML: the system --------------------------------------------------------------------- */

API int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    pthread_mutex_lock(&lock);
    int code = load_world();
    if (!code)
        code = fault_at(NULL, STATIC, now_ns(CLOCK_MONOTONIC));
    if (!code)
        references++;
    pthread_mutex_unlock(&lock);
    return code;
}

API int nvmlInit(void) { return nvmlInitWithFlags(0); }
API int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

API int nvmlShutdown(void)
{
    pthread_mutex_lock(&lock);
    int code = references > 0 ? (references--, OK) : UNINITIALIZED;
    pthread_mutex_unlock(&lock);
    return code;
}

API const char *nvmlErrorString(int code)
{
    switch (code) {
    case OK: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case TIMEOUT: return "Timeout";
    case GPU_IS_LOST: return "GPU is lost";
    case RESET_REQUIRED: return "GPU requires reset";
    case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

#define SYSTEM()                                                                                   \
    if (references <= 0)                                                                           \
        return UNINITIALIZED;                                                                      \
    int broken = fault_at(NULL, STATIC, now_ns(CLOCK_MONOTONIC));                                  \
    if (broken)                                                                                    \
    return broken

API int nvmlSystemGetDriverVersion(char *to, unsigned room)
{
    SYSTEM();
    return give_text(to, room, world.driver);
}

API int nvmlSystemGetNVMLVersion(char *to, unsigned room)
{
    SYSTEM();
    return give_text(to, room, world.nvml);
}

API int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    SYSTEM();
    *version = world.cuda_version;
    return OK;
}

API int nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

API int nvmlSystemGetProcessName(unsigned pid, char *to, unsigned room)
{
    char path[64];
    SYSTEM();
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return NOT_FOUND;
    char name[64] = "";
    if (fgets(name, sizeof name, f))
        name[strcspn(name, "\n")] = 0;
    fclose(f);
    return give_text(to, room, name);
}

API int nvmlDeviceGetCount_v2(unsigned *count)
{
    SYSTEM();
    *count = world.gpus;
    return OK;
}

API int nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

static int give_handle(Gpu *g, void **handle)
{
    int code = fault_at(g, STATIC, now_ns(CLOCK_MONOTONIC));
    if (!code)
        *handle = g;
    return code;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    SYSTEM();
    return index < world.gpus ? give_handle(&world.gpu[index], handle) : INVALID_ARGUMENT;
}

API int nvmlDeviceGetHandleByIndex(unsigned index, void **handle)
{
    return nvmlDeviceGetHandleByIndex_v2(index, handle);
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle)
{
    SYSTEM();
    for (unsigned i = 0; i < world.gpus; i++) {
        Gpu *g = &world.gpu[i];
        if (!strcmp(uuid, g->uuid))
            return give_handle(g, handle);
        for (unsigned m = 0; m < g->migs; m++)
            if (!strcmp(uuid, g->mig[m].uuid))
                return *handle = &g->mig[m], OK;
    }
    return NOT_FOUND;
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **handle)
{
    SYSTEM();
    for (unsigned i = 0; i < world.gpus; i++)
        if (!strcasecmp(bus, world.gpu[i].pci) || !strcasecmp(bus, world.gpu[i].pci + 4))
            return give_handle(&world.gpu[i], handle);
    return NOT_FOUND;
}

API int nvmlDeviceGetHandleByPciBusId(const char *bus, void **handle)
{
    return nvmlDeviceGetHandleByPciBusId_v2(bus, handle);
}

API int nvmlDeviceGetHandleBySerial(const char *serial, void **handle)
{
    SYSTEM();
    for (unsigned i = 0; i < world.gpus; i++)
        if (!strcmp(serial, world.gpu[i].serial))
            return give_handle(&world.gpu[i], handle);
    return NOT_FOUND;
}

/* ---- NVML: what a GPU is ------------------------------------------------------------------ */

API int nvmlDeviceGetName(void *device, char *to, unsigned room)
{
    ENTER(device, STATIC);
    return give_text(to, room, g->name);
}

API int nvmlDeviceGetUUID(void *device, char *to, unsigned room)
{
    ENTER(device, STATIC);
    return give_text(to, room, mig ? mig->uuid : g->uuid);
}

API int nvmlDeviceGetSerial(void *device, char *to, unsigned room)
{
    ENTER(device, STATIC);
    return give_text(to, room, g->serial);
}

API int nvmlDeviceGetVbiosVersion(void *device, char *to, unsigned room)
{
    ENTER(device, STATIC);
    return give_text(to, room, "emulated");
}

API int nvmlDeviceGetIndex(void *device, unsigned *index)
{
    ENTER(device, STATIC);
    *index = mig ? (unsigned)(mig - g->mig) : g->index;
    return OK;
}

API int nvmlDeviceGetMinorNumber(void *device, unsigned *minor)
{
    ENTER(device, STATIC);
    *minor = g->index;
    return OK;
}

API int nvmlDeviceGetArchitecture(void *device, unsigned *architecture)
{
    ENTER(device, STATIC);
    *architecture = g->architecture;
    return OK;
}

API int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    ENTER(device, STATIC);
    *major = (int)g->major;
    *minor = (int)g->minor;
    return OK;
}

#define CONSTANT(function, type, number)                                                           \
    API int function(void *device, type *to)                                                       \
    {                                                                                              \
        ENTER(device, STATIC);                                                                     \
        *to = number;                                                                              \
        return OK;                                                                                 \
    }
CONSTANT(nvmlDeviceGetBrand, unsigned, 14) /* NVML_BRAND_NVIDIA */
CONSTANT(nvmlDeviceGetPersistenceMode, unsigned, 1)
CONSTANT(nvmlDeviceGetComputeMode, unsigned, 0)
CONSTANT(nvmlDeviceGetPerformanceState, unsigned, 0)
CONSTANT(nvmlDeviceGetPowerState, unsigned, 0)
CONSTANT(nvmlDeviceGetPowerManagementMode, unsigned, 1)
CONSTANT(nvmlDeviceGetPowerManagementLimit, unsigned, g->limit_mw)
CONSTANT(nvmlDeviceGetEnforcedPowerLimit, unsigned, g->limit_mw)
CONSTANT(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, g->limit_default_mw)
CONSTANT(nvmlDeviceIsMigDeviceHandle, unsigned, mig != NULL)
CONSTANT(nvmlDeviceGetMaxMigDeviceCount, unsigned, g->migs ? MAX_MIG : 0)

API int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *low, unsigned *high)
{
    ENTER(device, STATIC);
    *low = g->limit_min_mw;
    *high = g->limit_max_mw;
    return OK;
}

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
} Pci;

API int nvmlDeviceGetPciInfo_v3(void *device, Pci *to)
{
    ENTER(device, STATIC);
    memset(to, 0, sizeof *to);
    to->id = 0x233010DE;
    sscanf(g->pci, "%x:%x:%x", &to->domain, &to->bus, &to->device);
    snprintf(to->bus_id, sizeof to->bus_id, "%s", g->pci);
    snprintf(to->legacy, sizeof to->legacy, "%.12s", g->pci + 4);
    return OK;
}

API int nvmlDeviceGetPciInfo_v2(void *device, Pci *to) { return nvmlDeviceGetPciInfo_v3(device, to); }
API int nvmlDeviceGetPciInfo(void *device, Pci *to) { return nvmlDeviceGetPciInfo_v3(device, to); }

API int nvmlDeviceGetC2cModeInfoV(void *device, unsigned *enabled)
{
    ENTER(device, STATIC);
    *enabled = (unsigned)g->c2c;
    return OK;
}

API int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending)
{
    ENTER(device, STATIC);
    *current = *pending = g->migs > 0;
    return OK;
}

API int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **handle)
{
    ENTER(device, STATIC);
    if (index >= g->migs)
        return g->migs ? NOT_FOUND : NOT_SUPPORTED;
    *handle = &g->mig[index];
    return OK;
}

API int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *device, void **handle)
{
    ENTER(device, STATIC);
    *handle = g;
    return mig ? OK : INVALID_ARGUMENT;
}

API int nvmlDeviceGetGpuInstanceId(void *device, unsigned *id)
{
    ENTER(device, STATIC);
    if (!mig)
        return NOT_SUPPORTED;
    *id = (unsigned)(mig - g->mig) + 1;
    return OK;
}

API int nvmlDeviceGetComputeInstanceId(void *device, unsigned *id)
{
    ENTER(device, STATIC);
    if (!mig)
        return NOT_SUPPORTED;
    *id = 0;
    return OK;
}

API int nvmlDeviceGetAttributes_v2(void *device, unsigned *to)
{
    ENTER(device, STATIC);
    if (!mig)
        return NOT_SUPPORTED;
    unsigned long long memory_mb = g->memory_bytes / MAX_MIG / (1024 * 1024);
    memset(to, 0, 32 + sizeof memory_mb);
    to[0] = 16; /* multiprocessors */
    to[6] = to[7] = 1; /* GPU and compute slices */
    memcpy(to + 8, &memory_mb, sizeof memory_mb);
    return OK;
}

/* ---- NVML: what a GPU does ---------------------------------------------------------------- */

API int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *to)
{
    ENTER(device, ENERGY);
    *to = (unsigned long long)counter_mj(g, t_ns);
    return OK;
}

API int nvmlDeviceGetPowerUsage(void *device, unsigned *to)
{
    ENTER(device, POWER);
    *to = (unsigned)power_mw(g, g->usage_field, SCOPE_GPU, t_ns);
    return OK;
}

static double load_ratio(Gpu *g, int64_t t_ns)
{
    double share = power_mw(g, g->usage_field, SCOPE_GPU, t_ns) / (double)g->limit_mw;
    return share > 1 ? 1 : share;
}

API int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *to)
{
    ENTER(device, OTHER);
    if (sensor != 0)
        return INVALID_ARGUMENT;
    *to = (unsigned)(30 + 45 * load_ratio(g, t_ns));
    return OK;
}

API int nvmlDeviceGetTemperatureV(void *device, unsigned *to)
{
    return nvmlDeviceGetTemperature(device, to[1], to + 2);
}

API int nvmlDeviceGetUtilizationRates(void *device, unsigned *to)
{
    ENTER(device, OTHER);
    if (mig)
        return NOT_SUPPORTED;
    to[0] = (unsigned)(100 * load_ratio(g, t_ns));
    to[1] = to[0] / 2;
    return OK;
}

API int nvmlDeviceGetClockInfo(void *device, unsigned type, unsigned *to)
{
    ENTER(device, OTHER);
    if (type > 3)
        return INVALID_ARGUMENT;
    *to = type == 2 ? g->memory_mhz : g->sm_mhz;
    return OK;
}

API int nvmlDeviceGetClock(void *device, unsigned type, unsigned id, unsigned *to)
{
    return id == 0 ? nvmlDeviceGetClockInfo(device, type, to) : NOT_SUPPORTED;
}

API int nvmlDeviceGetMaxClockInfo(void *device, unsigned type, unsigned *to)
{
    ENTER(device, STATIC);
    *to = type == 2 ? g->memory_mhz : g->sm_max_mhz;
    return OK;
}

static uint64_t memory_total(const Gpu *g, const Mig *mig) { return g->memory_bytes / (mig ? MAX_MIG : 1); }

static uint64_t memory_used(const Gpu *g, const Mig *mig)
{
    return g->memory_used_bytes / (mig ? MAX_MIG : 1);
}

API int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *to)
{
    ENTER(device, OTHER);
    to[0] = memory_total(g, mig);
    to[2] = memory_used(g, mig);
    to[1] = to[0] - to[2];
    return OK;
}

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} MemoryV2;

API int nvmlDeviceGetMemoryInfo_v2(void *device, MemoryV2 *to)
{
    ENTER(device, OTHER);
    to->total = memory_total(g, mig);
    to->used = memory_used(g, mig);
    to->reserved = to->total / 128;
    to->free = to->total - to->used - to->reserved;
    return OK;
}

static uint64_t throttle_reasons(const Gpu *g, int64_t t_ns)
{
    uint64_t reasons = 0;
    int64_t r = t_ns - world.origin_ns;
    for (unsigned i = 0; i < world.throttles; i++) {
        const Throttle *x = &world.throttle[i];
        if ((x->gpu < 0 || x->gpu == (int)g->index) && r >= x->start_ns && r < x->end_ns)
            reasons |= x->reason;
    }
    return reasons;
}

/* Nanoseconds spent throttled for any reason in *mask* since the origin. */
static uint64_t throttled_ns(const Gpu *g, uint64_t mask, int64_t t_ns)
{
    int64_t total_ns = 0, r = t_ns - world.origin_ns;
    for (unsigned i = 0; i < world.throttles; i++) {
        const Throttle *x = &world.throttle[i];
        int64_t end_ns = x->end_ns < r ? x->end_ns : r;
        if ((x->gpu < 0 || x->gpu == (int)g->index) && (x->reason & mask) && end_ns > x->start_ns)
            total_ns += end_ns - x->start_ns;
    }
    return (uint64_t)total_ns;
}

API int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *to)
{
    ENTER(device, OTHER);
    *to = throttle_reasons(g, t_ns);
    return OK;
}

API int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *to)
{
    return nvmlDeviceGetCurrentClocksEventReasons(device, to);
}

API int nvmlDeviceGetSupportedClocksEventReasons(void *device, unsigned long long *to)
{
    ENTER(device, STATIC);
    *to = 0x1FF;
    return OK;
}

API int nvmlDeviceGetSupportedClocksThrottleReasons(void *device, unsigned long long *to)
{
    return nvmlDeviceGetSupportedClocksEventReasons(device, to);
}

/* Which throttle reasons stand behind a field or a perf policy; 0: this one is not counted. */
static uint64_t reasons_of_field(unsigned field)
{
    switch (field) {
    case 74: return 0x4;                 /* power policy = SW power cap */
    case 75: return 0x20 | 0x40;         /* thermal policy */
    case 76: return 0x10;                /* sync boost */
    case 77: return 0x8;                 /* board limit */
    case 78: return 0x1;                 /* low utilisation */
    case 79: return 0x100;               /* reliability; no such reason bit on real drivers */
    case 269: return 0x20;
    case 270: return 0x40;
    case 271: return 0x80;
    default: return 0;
    }
}

API int nvmlDeviceGetViolationStatus(void *device, unsigned policy, unsigned long long *to)
{
    ENTER(device, OTHER);
    if (policy > 5)
        return policy > 11 ? INVALID_ARGUMENT : NOT_SUPPORTED;
    to[0] = (unsigned long long)(now_ns(CLOCK_REALTIME) / 1000);
    to[1] = throttled_ns(g, reasons_of_field(74 + policy), t_ns);
    return OK;
}

typedef struct {
    uint32_t field, scope;
    int64_t timestamp_us, latency_us;
    uint32_t type;
    int32_t code;
    union {
        double d;
        unsigned ui;
        unsigned long long ull;
    } value;
} FieldValue;

enum { UNSIGNED_INT = 1, UNSIGNED_LONG_LONG = 3 };

static int power_field(Gpu *g, FieldValue *v, int64_t t_ns)
{
    if (v->scope == SCOPE_MEMORY && (g->memory_ratio < 0 || (v->field == FIELD_INSTANT && !g->memory_instant)))
        return NOT_SUPPORTED;
    if (v->scope == SCOPE_MODULE && g->module_extra_w < 0)
        return NOT_SUPPORTED;
    if (v->scope > SCOPE_MEMORY || (v->field == FIELD_AVERAGE && !g->average.window_ns))
        return NOT_SUPPORTED;
    v->type = UNSIGNED_INT;
    v->value.ui = (unsigned)power_mw(g, (int)v->field, (int)v->scope, t_ns);
    return OK;
}

static int read_field(Gpu *g, Mig *mig, FieldValue *v, int64_t t_ns)
{
    int touches = v->field == 83 ? ENERGY : v->field >= 185 && v->field <= 192 ? POWER : OTHER;
    int code = fault_at(g, touches, t_ns);
    if (code)
        return code;
    if (mig && !g->mig_power_parent && touches != OTHER)
        return NOT_SUPPORTED;
    v->type = UNSIGNED_INT;
    switch (v->field) {
    case 83:
        v->type = UNSIGNED_LONG_LONG;
        v->value.ull = (unsigned long long)counter_mj(g, t_ns);
        return OK;
    case FIELD_AVERAGE:
    case FIELD_INSTANT: return power_field(g, v, t_ns);
    case 187: return v->value.ui = g->limit_min_mw, OK;
    case 188: return v->value.ui = g->limit_max_mw, OK;
    case 189: return v->value.ui = g->limit_default_mw, OK;
    case 190:
    case 192: return v->value.ui = g->limit_mw, OK;
    case 82: return v->value.ui = (unsigned)(35 + 40 * load_ratio(g, t_ns)), OK;
    default: break;
    }
    uint64_t mask = reasons_of_field(v->field);
    if (!mask)
        return NOT_SUPPORTED;
    v->type = UNSIGNED_LONG_LONG;
    v->value.ull = throttled_ns(g, mask, t_ns);
    return OK;
}

API int nvmlDeviceGetFieldValues(void *device, int count, FieldValue *values)
{
    if (count < 1 || !values)
        return INVALID_ARGUMENT;
    int touches = OTHER;
    for (int i = 0; i < count; i++)
        if (values[i].field == 83)
            touches |= ENERGY;
    Gpu *g;
    Mig *mig;
    int64_t t_ns;
    /* A fault of one class of fields shows in that field's own code, not in the call's. */
    int code = enter(device, touches, &g, &mig, &t_ns);
    if (code == UNINITIALIZED || code == INVALID_ARGUMENT)
        return code;
    code = fault_at(g, STATIC, t_ns);
    if (code)
        return code;
    for (int i = 0; i < count; i++) {
        values[i].timestamp_us = now_ns(CLOCK_REALTIME) / 1000;
        values[i].latency_us = world.power_latency_ns / 1000;
        values[i].value.ull = 0;
        values[i].code = read_field(g, mig, &values[i], t_ns);
    }
    return OK;
}

/* ---- NVML: processes ---------------------------------------------------------------------- */

typedef struct {
    unsigned gpu, pid, sm_percent, memory_percent;
    unsigned long long memory_bytes;
} Process;

/* Read afresh each time: lines `gpu pid sm_percent memory_percent memory_bytes`. */
static unsigned processes_of(const Gpu *g, Process *to)
{
    unsigned count = 0;
    FILE *f = world.processes[0] ? fopen(world.processes, "re") : NULL;
    if (!f)
        return 0;
    Process p;
    while (count < MAX_PROCESSES && fscanf(f, "%u %u %u %u %llu", &p.gpu, &p.pid, &p.sm_percent,
                                           &p.memory_percent, &p.memory_bytes) == 5)
        if (p.gpu == g->index)
            to[count++] = p;
    fclose(f);
    return count;
}

typedef struct {
    unsigned pid;
    unsigned long long memory_bytes;
    unsigned gpu_instance, compute_instance;
} ProcessInfo;

API int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, ProcessInfo *to)
{
    ENTER(device, PROCESSES);
    Process found[MAX_PROCESSES];
    unsigned n = processes_of(g, found);
    if (n > *count || (n && !to)) {
        *count = n;
        return INSUFFICIENT_SIZE;
    }
    for (unsigned i = 0; i < n; i++)
        to[i] = (ProcessInfo){found[i].pid, found[i].memory_bytes, UINT_MAX, UINT_MAX};
    *count = n;
    return OK;
}

API int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, ProcessInfo *to)
{
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, to);
}

#define NO_PROCESSES(function)                                                                     \
    API int function(void *device, unsigned *count, ProcessInfo *to)                               \
    {                                                                                              \
        ENTER(device, PROCESSES);                                                                  \
        (void)to;                                                                                  \
        *count = 0;                                                                                \
        return OK;                                                                                 \
    }
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3)

typedef struct {
    unsigned pid;
    unsigned long long t_us;
    unsigned sm, memory, encoder, decoder;
} ProcessUse;

/* One sample a process every 0.2 s of wall clock, as recent as *seen_us* asks. */
API int nvmlDeviceGetProcessUtilization(void *device, ProcessUse *to, unsigned *count,
                                        unsigned long long seen_us)
{
    ENTER(device, PROCESSES);
    Process found[MAX_PROCESSES];
    unsigned n = processes_of(g, found);
    unsigned long long t_us = (unsigned long long)(now_ns(CLOCK_REALTIME) / 1000) / 200000 * 200000;
    if (!n || t_us <= seen_us)
        return NOT_FOUND;
    if (n > *count || !to) {
        *count = n;
        return INSUFFICIENT_SIZE;
    }
    for (unsigned i = 0; i < n; i++)
        to[i] = (ProcessUse){found[i].pid, t_us, found[i].sm_percent, found[i].memory_percent, 0, 0};
    *count = n;
    return OK;
}

/* ---- NVML: everything else a client may ask for exists and is not supported ------------------ */

/* nvidia-ml-py 13.615 looks up all of these, and a few older names; none has an answer here. */
#define STUBS(X) \
    X(nvmlComputeInstanceDestroy) \
    X(nvmlComputeInstanceGetInfo_v2) \
    X(nvmlDeviceClearAccountingPids) \
    X(nvmlDeviceClearCpuAffinity) \
    X(nvmlDeviceClearEccErrorCounts) \
    X(nvmlDeviceClearFieldValues) \
    X(nvmlDeviceCreateGpuInstance) \
    X(nvmlDeviceCreateGpuInstanceWithPlacement) \
    X(nvmlDeviceDiscoverGpus) \
    X(nvmlDeviceFreezeNvLinkUtilizationCounter) \
    X(nvmlDeviceGetAPIRestriction) \
    X(nvmlDeviceGetAccountingBufferSize) \
    X(nvmlDeviceGetAccountingMode) \
    X(nvmlDeviceGetAccountingPids) \
    X(nvmlDeviceGetAccountingStats) \
    X(nvmlDeviceGetAccountingStats_v2) \
    X(nvmlDeviceGetActiveVgpus) \
    X(nvmlDeviceGetAdaptiveClockInfoStatus) \
    X(nvmlDeviceGetAdaptiveTgpModeInfo_v1) \
    X(nvmlDeviceGetAddressingMode) \
    X(nvmlDeviceGetApplicationsClock) \
    X(nvmlDeviceGetAttributes) \
    X(nvmlDeviceGetAutoBoostedClocksEnabled) \
    X(nvmlDeviceGetBAR1MemoryInfo) \
    X(nvmlDeviceGetBBXTimeData_v1) \
    X(nvmlDeviceGetBankRemapperStatus_v1) \
    X(nvmlDeviceGetBoardId) \
    X(nvmlDeviceGetBoardPartNumber) \
    X(nvmlDeviceGetBridgeChipInfo) \
    X(nvmlDeviceGetBusType) \
    X(nvmlDeviceGetCapabilities) \
    X(nvmlDeviceGetClkMonStatus) \
    X(nvmlDeviceGetClockOffsets) \
    X(nvmlDeviceGetComputeRunningProcesses) \
    X(nvmlDeviceGetConfComputeGpuAttestationReport) \
    X(nvmlDeviceGetConfComputeGpuCertificate) \
    X(nvmlDeviceGetConfComputeMemSizeInfo) \
    X(nvmlDeviceGetConfComputeProtectedMemoryUsage) \
    X(nvmlDeviceGetCoolerInfo) \
    X(nvmlDeviceGetCpuAffinity) \
    X(nvmlDeviceGetCpuAffinityWithinScope) \
    X(nvmlDeviceGetCreatableVgpus) \
    X(nvmlDeviceGetCurrPcieLinkGeneration) \
    X(nvmlDeviceGetCurrPcieLinkWidth) \
    X(nvmlDeviceGetCurrentClockFreqs) \
    X(nvmlDeviceGetDecoderUtilization) \
    X(nvmlDeviceGetDefaultApplicationsClock) \
    X(nvmlDeviceGetDefaultEccMode) \
    X(nvmlDeviceGetDetailedEccErrors) \
    X(nvmlDeviceGetDisplayActive) \
    X(nvmlDeviceGetDisplayMode) \
    X(nvmlDeviceGetDramEncryptionMode) \
    X(nvmlDeviceGetDriverModel) \
    X(nvmlDeviceGetDriverModel_v2) \
    X(nvmlDeviceGetDynamicPstatesInfo) \
    X(nvmlDeviceGetEccMode) \
    X(nvmlDeviceGetEncoderCapacity) \
    X(nvmlDeviceGetEncoderSessions) \
    X(nvmlDeviceGetEncoderStats) \
    X(nvmlDeviceGetEncoderUtilization) \
    X(nvmlDeviceGetFBCSessions) \
    X(nvmlDeviceGetFBCStats) \
    X(nvmlDeviceGetFanControlPolicy_v2) \
    X(nvmlDeviceGetFanSpeed) \
    X(nvmlDeviceGetFanSpeedRPM) \
    X(nvmlDeviceGetFanSpeed_v2) \
    X(nvmlDeviceGetGpcClkMinMaxVfOffset) \
    X(nvmlDeviceGetGpcClkVfOffset) \
    X(nvmlDeviceGetGpuFabricInfo) \
    X(nvmlDeviceGetGpuFabricInfoV) \
    X(nvmlDeviceGetGpuFabricInfo_v4) \
    X(nvmlDeviceGetGpuInstanceById) \
    X(nvmlDeviceGetGpuInstancePossiblePlacements_v2) \
    X(nvmlDeviceGetGpuInstanceProfileInfo) \
    X(nvmlDeviceGetGpuInstanceProfileInfoByIdV) \
    X(nvmlDeviceGetGpuInstanceProfileInfoV) \
    X(nvmlDeviceGetGpuInstanceRemainingCapacity) \
    X(nvmlDeviceGetGpuInstances) \
    X(nvmlDeviceGetGpuMaxPcieLinkGeneration) \
    X(nvmlDeviceGetGpuOperationMode) \
    X(nvmlDeviceGetGraphicsRunningProcesses) \
    X(nvmlDeviceGetGridLicensableFeatures_v4) \
    X(nvmlDeviceGetGspFirmwareMode) \
    X(nvmlDeviceGetGspFirmwareVersion) \
    X(nvmlDeviceGetHandleByUUIDV) \
    X(nvmlDeviceGetHostVgpuMode) \
    X(nvmlDeviceGetHostname_v1) \
    X(nvmlDeviceGetInforomConfigurationChecksum) \
    X(nvmlDeviceGetInforomImageVersion) \
    X(nvmlDeviceGetInforomVersion) \
    X(nvmlDeviceGetIrqNum) \
    X(nvmlDeviceGetJpgUtilization) \
    X(nvmlDeviceGetLastBBXFlushTime) \
    X(nvmlDeviceGetMPSComputeRunningProcesses) \
    X(nvmlDeviceGetMarginTemperature) \
    X(nvmlDeviceGetMaxCustomerBoostClock) \
    X(nvmlDeviceGetMaxPcieLinkGeneration) \
    X(nvmlDeviceGetMaxPcieLinkWidth) \
    X(nvmlDeviceGetMemClkMinMaxVfOffset) \
    X(nvmlDeviceGetMemClkVfOffset) \
    X(nvmlDeviceGetMemoryAffinity) \
    X(nvmlDeviceGetMemoryBusWidth) \
    X(nvmlDeviceGetMemoryErrorCounter) \
    X(nvmlDeviceGetMemoryLimits_v1) \
    X(nvmlDeviceGetMinMaxClockOfPState) \
    X(nvmlDeviceGetMinMaxFanSpeed) \
    X(nvmlDeviceGetModuleId) \
    X(nvmlDeviceGetMultiGpuBoard) \
    X(nvmlDeviceGetNumFans) \
    X(nvmlDeviceGetNumGpuCores) \
    X(nvmlDeviceGetNumaNodeId) \
    X(nvmlDeviceGetNvLinkCapability) \
    X(nvmlDeviceGetNvLinkErrorCounter) \
    X(nvmlDeviceGetNvLinkInfo) \
    X(nvmlDeviceGetNvLinkRemoteDeviceType) \
    X(nvmlDeviceGetNvLinkRemotePciInfo_v2) \
    X(nvmlDeviceGetNvLinkState) \
    X(nvmlDeviceGetNvLinkTelemetrySamples_v1) \
    X(nvmlDeviceGetNvLinkUtilizationControl) \
    X(nvmlDeviceGetNvLinkUtilizationCounter) \
    X(nvmlDeviceGetNvLinkVersion) \
    X(nvmlDeviceGetNvlinkBwMode) \
    X(nvmlDeviceGetNvlinkSupportedBwModes) \
    X(nvmlDeviceGetOfaUtilization) \
    X(nvmlDeviceGetP2PStatus) \
    X(nvmlDeviceGetPciInfoExt) \
    X(nvmlDeviceGetPcieLinkMaxSpeed) \
    X(nvmlDeviceGetPcieReplayCounter) \
    X(nvmlDeviceGetPcieSpeed) \
    X(nvmlDeviceGetPcieThroughput) \
    X(nvmlDeviceGetPdi) \
    X(nvmlDeviceGetPerformanceModes) \
    X(nvmlDeviceGetPgpuMetadataString) \
    X(nvmlDeviceGetPlatformInfo) \
    X(nvmlDeviceGetPowerMizerMode_v1) \
    X(nvmlDeviceGetPowerSource) \
    X(nvmlDeviceGetProcessesUtilizationInfo) \
    X(nvmlDeviceGetRemappedRows) \
    X(nvmlDeviceGetRemappedRows_v2) \
    X(nvmlDeviceGetRepairStatus) \
    X(nvmlDeviceGetRetiredPages) \
    X(nvmlDeviceGetRetiredPagesPendingStatus) \
    X(nvmlDeviceGetRetiredPages_v2) \
    X(nvmlDeviceGetRowRemapperHistogram) \
    X(nvmlDeviceGetRunningProcessDetailList) \
    X(nvmlDeviceGetSamples) \
    X(nvmlDeviceGetSramEccErrorStatus) \
    X(nvmlDeviceGetSramUniqueUncorrectedEccErrorCounts) \
    X(nvmlDeviceGetSupportedEventTypes) \
    X(nvmlDeviceGetSupportedGraphicsClocks) \
    X(nvmlDeviceGetSupportedMemoryClocks) \
    X(nvmlDeviceGetSupportedPerformanceStates) \
    X(nvmlDeviceGetSupportedVgpus) \
    X(nvmlDeviceGetTargetFanSpeed) \
    X(nvmlDeviceGetTemperatureThreshold) \
    X(nvmlDeviceGetThermalSettings) \
    X(nvmlDeviceGetTopologyCommonAncestor) \
    X(nvmlDeviceGetTopologyNearestGpus) \
    X(nvmlDeviceGetTotalEccErrors) \
    X(nvmlDeviceGetUnrepairableMemoryFlag_v1) \
    X(nvmlDeviceGetVgpuCapabilities) \
    X(nvmlDeviceGetVgpuHeterogeneousMode) \
    X(nvmlDeviceGetVgpuInstancesUtilizationInfo) \
    X(nvmlDeviceGetVgpuMetadata) \
    X(nvmlDeviceGetVgpuProcessUtilization) \
    X(nvmlDeviceGetVgpuProcessesUtilizationInfo) \
    X(nvmlDeviceGetVgpuSchedulerCapabilities) \
    X(nvmlDeviceGetVgpuSchedulerLog) \
    X(nvmlDeviceGetVgpuSchedulerLog_v2) \
    X(nvmlDeviceGetVgpuSchedulerState) \
    X(nvmlDeviceGetVgpuSchedulerState_v2) \
    X(nvmlDeviceGetVgpuTypeCreatablePlacements) \
    X(nvmlDeviceGetVgpuTypeSupportedPlacements) \
    X(nvmlDeviceGetVgpuUtilization) \
    X(nvmlDeviceGetVirtualizationMode) \
    X(nvmlDeviceModifyDrainState) \
    X(nvmlDeviceOnSameBoard) \
    X(nvmlDevicePerfMetricsGetSamples_v1) \
    X(nvmlDevicePowerSmoothingActivatePresetProfile) \
    X(nvmlDevicePowerSmoothingSetState) \
    X(nvmlDevicePowerSmoothingUpdatePresetProfileParam) \
    X(nvmlDeviceQueryDrainState) \
    X(nvmlDeviceReadPRMCounters_v1) \
    X(nvmlDeviceReadWritePRM_v1) \
    X(nvmlDeviceRegisterEvents) \
    X(nvmlDeviceRemoveGpu) \
    X(nvmlDeviceRemoveGpu_v2) \
    X(nvmlDeviceResetApplicationsClocks) \
    X(nvmlDeviceResetGpuLockedClocks) \
    X(nvmlDeviceResetMemoryLockedClocks) \
    X(nvmlDeviceResetNvLinkErrorCounters) \
    X(nvmlDeviceResetNvLinkUtilizationCounter) \
    X(nvmlDeviceSetAPIRestriction) \
    X(nvmlDeviceSetAccountingMode) \
    X(nvmlDeviceSetAdaptiveTgpMode_v1) \
    X(nvmlDeviceSetApplicationsClocks) \
    X(nvmlDeviceSetAutoBoostedClocksEnabled) \
    X(nvmlDeviceSetClockOffsets) \
    X(nvmlDeviceSetComputeMode) \
    X(nvmlDeviceSetConfComputeUnprotectedMemSize) \
    X(nvmlDeviceSetCpuAffinity) \
    X(nvmlDeviceSetDefaultAutoBoostedClocksEnabled) \
    X(nvmlDeviceSetDefaultFanSpeed_v2) \
    X(nvmlDeviceSetDramEncryptionMode) \
    X(nvmlDeviceSetDriverModel) \
    X(nvmlDeviceSetEccMode) \
    X(nvmlDeviceSetFanControlPolicy) \
    X(nvmlDeviceSetFanSpeed_v2) \
    X(nvmlDeviceSetGpcClkVfOffset) \
    X(nvmlDeviceSetGpuLockedClocks) \
    X(nvmlDeviceSetGpuOperationMode) \
    X(nvmlDeviceSetHostname_v1) \
    X(nvmlDeviceSetMemClkVfOffset) \
    X(nvmlDeviceSetMemoryLimits_v1) \
    X(nvmlDeviceSetMemoryLockedClocks) \
    X(nvmlDeviceSetMigMode) \
    X(nvmlDeviceSetNvLinkDeviceLowPowerThreshold) \
    X(nvmlDeviceSetNvLinkUtilizationControl) \
    X(nvmlDeviceSetNvlinkBwMode) \
    X(nvmlDeviceSetNvlinkBwModeAsync_v1) \
    X(nvmlDeviceSetPersistenceMode) \
    X(nvmlDeviceSetPowerManagementLimit) \
    X(nvmlDeviceSetPowerManagementLimit_v2) \
    X(nvmlDeviceSetPowerMizerMode_v1) \
    X(nvmlDeviceSetRusdSettings_v1) \
    X(nvmlDeviceSetTemperatureThreshold) \
    X(nvmlDeviceSetVgpuCapabilities) \
    X(nvmlDeviceSetVgpuHeterogeneousMode) \
    X(nvmlDeviceSetVgpuSchedulerState) \
    X(nvmlDeviceSetVgpuSchedulerState_v2) \
    X(nvmlDeviceSetVirtualizationMode) \
    X(nvmlDeviceValidateInforom) \
    X(nvmlDeviceVgpuForceGspUnload) \
    X(nvmlDeviceWorkloadPowerProfileClearRequestedProfiles) \
    X(nvmlDeviceWorkloadPowerProfileGetCurrentProfiles) \
    X(nvmlDeviceWorkloadPowerProfileGetProfilesInfo) \
    X(nvmlDeviceWorkloadPowerProfileSetRequestedProfiles) \
    X(nvmlDeviceWorkloadPowerProfileUpdateProfiles_v1) \
    X(nvmlEventSetCreate) \
    X(nvmlEventSetFree) \
    X(nvmlEventSetGetContextCount_v1) \
    X(nvmlEventSetGetContextData_v1) \
    X(nvmlEventSetGetContextInfo_v1) \
    X(nvmlEventSetGetGpuOperationalEventContextLegacyXid_v1) \
    X(nvmlEventSetRegisterGpuOperationalEvents_v1) \
    X(nvmlEventSetWait) \
    X(nvmlEventSetWait_v2) \
    X(nvmlEventSetWait_v3) \
    X(nvmlGetExcludedDeviceCount) \
    X(nvmlGetExcludedDeviceInfoByIndex) \
    X(nvmlGetVgpuCompatibility) \
    X(nvmlGetVgpuDriverCapabilities) \
    X(nvmlGetVgpuVersion) \
    X(nvmlGpmMetricsGet) \
    X(nvmlGpmMigSampleGet) \
    X(nvmlGpmQueryDeviceSupport) \
    X(nvmlGpmQueryIfStreamingEnabled) \
    X(nvmlGpmSampleAlloc) \
    X(nvmlGpmSampleFree) \
    X(nvmlGpmSampleGet) \
    X(nvmlGpmSetStreamingEnabled) \
    X(nvmlGpuInstanceCreateComputeInstance) \
    X(nvmlGpuInstanceCreateComputeInstanceWithPlacement) \
    X(nvmlGpuInstanceDestroy) \
    X(nvmlGpuInstanceGetActiveVgpus) \
    X(nvmlGpuInstanceGetComputeInstanceById) \
    X(nvmlGpuInstanceGetComputeInstancePossiblePlacements) \
    X(nvmlGpuInstanceGetComputeInstanceProfileInfo) \
    X(nvmlGpuInstanceGetComputeInstanceProfileInfoV) \
    X(nvmlGpuInstanceGetComputeInstanceRemainingCapacity) \
    X(nvmlGpuInstanceGetComputeInstances) \
    X(nvmlGpuInstanceGetCreatableVgpus) \
    X(nvmlGpuInstanceGetInfo) \
    X(nvmlGpuInstanceGetVgpuHeterogeneousMode) \
    X(nvmlGpuInstanceGetVgpuSchedulerLog) \
    X(nvmlGpuInstanceGetVgpuSchedulerLog_v2) \
    X(nvmlGpuInstanceGetVgpuSchedulerState) \
    X(nvmlGpuInstanceGetVgpuSchedulerState_v2) \
    X(nvmlGpuInstanceGetVgpuTypeCreatablePlacements) \
    X(nvmlGpuInstanceSetVgpuHeterogeneousMode) \
    X(nvmlGpuInstanceSetVgpuSchedulerState) \
    X(nvmlGpuInstanceSetVgpuSchedulerState_v2) \
    X(nvmlSetVgpuVersion) \
    X(nvmlSystemEventSetCreate) \
    X(nvmlSystemEventSetFree) \
    X(nvmlSystemEventSetWait) \
    X(nvmlSystemGetCPER_v1) \
    X(nvmlSystemGetConfComputeCapabilities) \
    X(nvmlSystemGetConfComputeGpusReadyState) \
    X(nvmlSystemGetConfComputeKeyRotationThresholdInfo) \
    X(nvmlSystemGetConfComputeSettings) \
    X(nvmlSystemGetConfComputeState) \
    X(nvmlSystemGetDriverBranch) \
    X(nvmlSystemGetHicVersion) \
    X(nvmlSystemGetNvlinkBwMode) \
    X(nvmlSystemGetTopologyGpuSet) \
    X(nvmlSystemRegisterEvents) \
    X(nvmlSystemSetConfComputeGpusReadyState) \
    X(nvmlSystemSetConfComputeKeyRotationThresholdInfo) \
    X(nvmlSystemSetNvlinkBwMode) \
    X(nvmlUnitGetCount) \
    X(nvmlUnitGetDevices) \
    X(nvmlUnitGetFanSpeedInfo) \
    X(nvmlUnitGetHandleByIndex) \
    X(nvmlUnitGetLedState) \
    X(nvmlUnitGetPsuInfo) \
    X(nvmlUnitGetTemperature) \
    X(nvmlUnitGetUnitInfo) \
    X(nvmlUnitSetLedState) \
    X(nvmlVgpuInstanceClearAccountingPids) \
    X(nvmlVgpuInstanceGetAccountingMode) \
    X(nvmlVgpuInstanceGetAccountingPids) \
    X(nvmlVgpuInstanceGetAccountingStats) \
    X(nvmlVgpuInstanceGetEccMode) \
    X(nvmlVgpuInstanceGetEncoderCapacity) \
    X(nvmlVgpuInstanceGetEncoderSessions) \
    X(nvmlVgpuInstanceGetEncoderStats) \
    X(nvmlVgpuInstanceGetFBCSessions) \
    X(nvmlVgpuInstanceGetFBCStats) \
    X(nvmlVgpuInstanceGetFbUsage) \
    X(nvmlVgpuInstanceGetFrameRateLimit) \
    X(nvmlVgpuInstanceGetGpuInstanceId) \
    X(nvmlVgpuInstanceGetGpuPciId) \
    X(nvmlVgpuInstanceGetLicenseInfo) \
    X(nvmlVgpuInstanceGetLicenseInfo_v2) \
    X(nvmlVgpuInstanceGetLicenseStatus) \
    X(nvmlVgpuInstanceGetMdevUUID) \
    X(nvmlVgpuInstanceGetMetadata) \
    X(nvmlVgpuInstanceGetPlacementId) \
    X(nvmlVgpuInstanceGetRuntimeStateSize) \
    X(nvmlVgpuInstanceGetType) \
    X(nvmlVgpuInstanceGetUUID) \
    X(nvmlVgpuInstanceGetVmDriverVersion) \
    X(nvmlVgpuInstanceGetVmID) \
    X(nvmlVgpuInstanceSetEncoderCapacity) \
    X(nvmlVgpuTypeGetBAR1Info) \
    X(nvmlVgpuTypeGetCapabilities) \
    X(nvmlVgpuTypeGetClass) \
    X(nvmlVgpuTypeGetDeviceID) \
    X(nvmlVgpuTypeGetFbReservation) \
    X(nvmlVgpuTypeGetFrameRateLimit) \
    X(nvmlVgpuTypeGetFramebufferSize) \
    X(nvmlVgpuTypeGetGpuInstanceProfileId) \
    X(nvmlVgpuTypeGetGspHeapSize) \
    X(nvmlVgpuTypeGetLicense) \
    X(nvmlVgpuTypeGetMaxInstances) \
    X(nvmlVgpuTypeGetMaxInstancesPerGpuInstance) \
    X(nvmlVgpuTypeGetMaxInstancesPerVm) \
    X(nvmlVgpuTypeGetName) \
    X(nvmlVgpuTypeGetNumDisplayHeads) \
    X(nvmlVgpuTypeGetResolution)

#define STUB(function)                                                                             \
    API int function(void) { return references > 0 ? NOT_SUPPORTED : UNINITIALIZED; }
STUBS(STUB)
