// As much of CUDA's driver, of cuBLAS, cuRAND and NCCL as sconce calls, on the processor: the kernels of kernels.cu run
// in `emulation.h`, a stream is a thread with a queue, the memory of a GPU is the host's. So everything above the
// kernels (what is launched, with which arguments, on what, in which order) is tested without a GPU. One shared library
// stands for all of them; the tests of GPUs link it under their names. What it cannot show is said in emulation.h.
//
// SCONCE_EMULATED_GPUS is the number of GPUs, SCONCE_EMULATED_MEMORY the bytes of each, of which SCONCE_EMULATED_CONTEXT are
// taken before anybody asks; SCONCE_EMULATED_FAULT is what goes wrong: `allreduce:RANK:COUNT`, the rank never comes to that
// collective; `graph`, nothing can be recorded; `lost:GPU:FILE`, that GPU takes no more launches once there is the file.
// SCONCE_EMULATED_KINDS are the names of GPUs, with `;` between them. With SCONCE_EMULATED_PEERS=0 no GPU reaches another's memory; SCONCE_EMULATED_NCCL
// is the version of NCCL.
#define HOST_EMULATION
#include "emulation.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <unistd.h>
#include <unordered_map>

using Work = std::function<void()>;
using Bind = std::function<Work(void **)>;

static std::unordered_map<std::string, Bind> &kernels() {
    static std::unordered_map<std::string, Bind> table;
    return table;
}

struct Entry {
    template <typename... A> Entry(const char *name, void (*kernel)(A...)) {
        kernels()[name] = [kernel](void **arguments) { return bound(kernel, arguments, std::index_sequence_for<A...>()); };
    }
    // Arguments are copied when a kernel is launched, as CUDA does.
    template <typename... A, size_t... I>
    static Work bound(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
        return [kernel, values = std::make_tuple(*(std::remove_const_t<A> *)arguments[I]...)] { std::apply(kernel, values); };
    }
};

#define EXPORT(NAME, PARAMETERS, ...)                                                                                  \
    static void NAME PARAMETERS { __VA_ARGS__; }                                                                       \
    static const Entry entry_##NAME(#NAME, &NAME);
#define EXPORT_BOUNDED(NAME, THREADS, PARAMETERS, ...) EXPORT(NAME, PARAMETERS, __VA_ARGS__)
#include "../kernels.cu"

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    NOT_FOUND = 500,
    NOT_READY = 600,
    LAUNCH_FAILED = 719,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901
};

static size_t number(const char *name, size_t unsaid) {
    const char *text = getenv(name);
    return text ? std::stoull(text) : unsaid;
}

static int gpus() { return (int)number("SCONCE_EMULATED_GPUS", 1); }

// One GPU: its memory, and the context that all threads share.
struct Gpu {
    std::mutex lock;
    std::unordered_map<void *, size_t> given;
    size_t taken = number("SCONCE_EMULATED_CONTEXT", 0), size = number("SCONCE_EMULATED_MEMORY", (size_t)4 << 30);
};

static Gpu &gpu(int index) {
    static std::deque<Gpu> all(64);
    return all[index];
}

static thread_local Gpu *current = nullptr;

// What a stream was told while it was recorded, in order.
struct Graph {
    std::vector<Work> works;
    bool is_broken = false;
};

struct Stream {
    std::mutex lock;
    std::unique_ptr<Graph> graph; // while it is recorded
    std::condition_variable changed;
    std::deque<Work> queue;
    bool busy = false, ends = false;
    std::thread thread{[this] { run(); }};

    void run() {
        std::unique_lock<std::mutex> held(lock);
        for (;;) {
            changed.wait(held, [&] { return ends || !queue.empty(); });
            if (queue.empty())
                return;
            Work work = std::move(queue.front());
            queue.pop_front();
            busy = true;
            held.unlock();
            work();
            held.lock();
            busy = false;
            changed.notify_all();
        }
    }
    void add(Work work) {
        std::lock_guard<std::mutex> held(lock);
        if (graph) {
            graph->works.push_back(std::move(work));
            return;
        }
        queue.push_back(std::move(work));
        changed.notify_all();
    }
    // Whether it is recorded, when what it is asked for cannot be: then nothing of the recording is of use.
    bool breaks_graph() {
        std::lock_guard<std::mutex> held(lock);
        if (graph)
            graph->is_broken = true;
        return graph != nullptr;
    }
    bool idle() {
        std::lock_guard<std::mutex> held(lock);
        return queue.empty() && !busy;
    }
    void wait() {
        std::unique_lock<std::mutex> held(lock);
        changed.wait(held, [&] { return queue.empty() && !busy; });
    }
    ~Stream() {
        {
            std::lock_guard<std::mutex> held(lock);
            ends = true;
            changed.notify_all();
        }
        thread.join();
    }
};

struct Event {
    std::atomic<bool> done{true};
};

static Stream &main_stream() {
    static Stream *stream = new Stream; // its thread lives as long as the process
    return *stream;
}

static Stream &of(Stream *stream) { return (uintptr_t)stream <= 2 ? main_stream() : *stream; }

#define API extern "C" __attribute__((visibility("default")))

API int cuInit(unsigned) { return gpus() > 0 ? SUCCESS : NO_DEVICE; }
API int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
API int cuGetErrorName(int error, const char **name) {
    switch (error) {
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; break;
    case INVALID_DEVICE: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
    case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
    case NOT_READY: *name = "CUDA_ERROR_NOT_READY"; break;
    case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
    case CAPTURE_UNSUPPORTED: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
    case CAPTURE_INVALIDATED: *name = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"; break;
    default: *name = "CUDA_ERROR_INVALID_VALUE";
    }
    return SUCCESS;
}
API int cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }
API int cuDeviceGetCount(int *count) { return *count = gpus(), SUCCESS; }
API int cuDeviceGet(int *device, int index) { return *device = index, index < gpus() ? SUCCESS : INVALID_DEVICE; }
API int cuDeviceGetName(char *name, int length, int index) {
    const char *kinds = getenv("SCONCE_EMULATED_KINDS");
    for (; kinds && index > 0; --index)
        kinds = strchr(kinds, ';') ? strchr(kinds, ';') + 1 : nullptr;
    if (!kinds)
        return snprintf(name, length, "Emulated GPU"), SUCCESS;
    return snprintf(name, length, "%.*s", (int)strcspn(kinds, ";"), kinds), SUCCESS;
}
API int cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = gpu(device).size, SUCCESS; }
API int cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
    case 75: *value = 9; break;  // major compute capability
    case 76: *value = 0; break;  // minor
    case 115: *value = 1; break; // memory pools
    default: *value = 0;
    }
    return SUCCESS;
}
API int cuDeviceCanAccessPeer(int *can, int, int) { return *can = number("SCONCE_EMULATED_PEERS", 1) != 0, SUCCESS; }
API int cuDeviceGetDefaultMemPool(void **pool, int device) { return *pool = &gpu(device), SUCCESS; }
API int cuMemPoolSetAttribute(void *, int, void *) { return SUCCESS; }
API int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = &gpu(device), SUCCESS; }
API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API int cuCtxSetCurrent(void *context) { return current = (Gpu *)context, SUCCESS; }
API int cuCtxGetCurrent(void **context) { return *context = current, SUCCESS; }
API int cuCtxSynchronize() { return main_stream().wait(), SUCCESS; }
API int cuStreamCreate(Stream **stream, unsigned) { return *stream = new Stream, SUCCESS; }
API int cuStreamDestroy_v2(Stream *stream) { return delete stream, SUCCESS; }
API int cuStreamSynchronize(Stream *stream) {
    if (of(stream).breaks_graph())
        return CAPTURE_UNSUPPORTED;
    return of(stream).wait(), SUCCESS;
}
API int cuStreamQuery(Stream *stream) {
    if (of(stream).breaks_graph())
        return CAPTURE_UNSUPPORTED;
    return of(stream).idle() ? SUCCESS : NOT_READY;
}
API int cuStreamIsCapturing(Stream *stream, int *status) {
    std::lock_guard<std::mutex> held(of(stream).lock);
    return *status = of(stream).graph ? 1 : 0, SUCCESS;
}

// Graphs: what is recorded is done only when the graph is launched, with the arguments that it had when it was recorded.
// SCONCE_EMULATED_FAULT=graph: none can be made.
API int cuStreamBeginCapture_v2(Stream *stream, int) {
    if ((uintptr_t)stream <= 2)
        return CAPTURE_UNSUPPORTED; // the main stream cannot be recorded
    std::lock_guard<std::mutex> held(stream->lock);
    if (stream->graph)
        return INVALID_VALUE;
    stream->graph = std::make_unique<Graph>();
    return SUCCESS;
}
API int cuStreamEndCapture(Stream *stream, Graph **graph) {
    std::lock_guard<std::mutex> held(stream->lock);
    *graph = nullptr;
    if (!stream->graph)
        return INVALID_VALUE;
    std::unique_ptr<Graph> recorded = std::move(stream->graph);
    if (recorded->is_broken)
        return CAPTURE_INVALIDATED;
    *graph = recorded.release();
    return SUCCESS;
}
API int cuGraphInstantiateWithFlags(Graph **launched, Graph *graph, unsigned long long) {
    const char *fault = getenv("SCONCE_EMULATED_FAULT");
    if (fault && !strcmp(fault, "graph"))
        return OUT_OF_MEMORY;
    return *launched = new Graph(*graph), SUCCESS;
}
API int cuGraphUpload(Graph *, Stream *) { return SUCCESS; }
static bool is_lost();
API int cuGraphLaunch(Graph *graph, Stream *stream) {
    if (is_lost())
        return LAUNCH_FAILED;
    for (const Work &work : graph->works)
        of(stream).add(work);
    return SUCCESS;
}
API int cuGraphDestroy(Graph *graph) { return delete graph, SUCCESS; }
API int cuGraphExecDestroy(Graph *graph) { return delete graph, SUCCESS; }
API int cuEventCreate(Event **event, unsigned) { return *event = new Event, SUCCESS; }
API int cuEventDestroy_v2(Event *) { return SUCCESS; } // a stream may still mark it
API int cuEventRecord(Event *event, Stream *stream) {
    event->done = false;
    of(stream).add([event] { event->done = true; });
    return SUCCESS;
}
API int cuEventQuery(Event *event) { return event->done ? SUCCESS : NOT_READY; }
API int cuEventSynchronize(Event *event) {
    while (!event->done)
        std::this_thread::yield();
    return SUCCESS;
}
API int cuStreamWaitEvent(Stream *stream, Event *event, unsigned) {
    of(stream).add([event] { cuEventSynchronize(event); });
    return SUCCESS;
}

static int give(void **pointer, size_t bytes) {
    Gpu &here = *current;
    std::lock_guard<std::mutex> held(here.lock);
    if (bytes == 0)
        return INVALID_VALUE;
    if (here.taken + bytes > here.size)
        return OUT_OF_MEMORY;
    // Aligned as CUDA does; full of numbers that are none.
    *pointer = aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset(*pointer, 0xff, bytes);
    here.given[*pointer] = bytes;
    here.taken += bytes;
    return SUCCESS;
}
static void take_back(Gpu &here, void *pointer) {
    std::lock_guard<std::mutex> held(here.lock);
    const auto found = here.given.find(pointer);
    if (found == here.given.end()) {
        fprintf(stderr, "memory is freed that was not given\n");
        abort();
    }
    here.taken -= found->second;
    here.given.erase(found);
    free(pointer);
}
API int cuMemAlloc_v2(void **pointer, size_t bytes) { return give(pointer, bytes); }
// CUDA would make memory of the graph out of these. What is recorded here must do without.
API int cuMemAllocAsync(void **pointer, size_t bytes, Stream *stream) {
    return of(stream).breaks_graph() ? CAPTURE_UNSUPPORTED : give(pointer, bytes);
}
API int cuMemFree_v2(void *pointer) { return main_stream().wait(), take_back(*current, pointer), SUCCESS; }
API int cuMemFreeAsync(void *pointer, Stream *stream) {
    if (of(stream).breaks_graph())
        return CAPTURE_UNSUPPORTED;
    Gpu *here = current;
    of(stream).add([here, pointer] { take_back(*here, pointer); });
    return SUCCESS;
}
API int cuMemGetInfo_v2(size_t *free, size_t *total) {
    std::lock_guard<std::mutex> held(current->lock);
    *total = current->size;
    *free = current->size - current->taken;
    return SUCCESS;
}
API int cuMemHostAlloc(void **pointer, size_t bytes, unsigned) { return *pointer = malloc(bytes), SUCCESS; }
API int cuMemFreeHost(void *pointer) { return free(pointer), SUCCESS; }
API int cuMemsetD8Async(void *to, unsigned char value, size_t bytes, Stream *stream) {
    of(stream).add([=] { memset(to, value, bytes); });
    return SUCCESS;
}
// What lies in ordinary memory is staged before the call returns.
API int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    if (of(stream).breaks_graph())
        return CAPTURE_UNSUPPORTED; // the host's memory would be read again when it has become another's
    auto staged = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
    of(stream).add([=] { memcpy(to, staged->data(), staged->size()); });
    return SUCCESS;
}
API int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    if (of(stream).breaks_graph())
        return CAPTURE_UNSUPPORTED;
    of(stream).add([=] { memcpy(to, from, bytes); });
    return of(stream).wait(), SUCCESS;
}
API int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    of(stream).add([=] { memmove(to, from, bytes); });
    return SUCCESS;
}
API int cuModuleLoadData(void **module, const void *) { return *module = &kernels(), SUCCESS; }
API int cuModuleUnload(void *) { return SUCCESS; }
API int cuModuleGetFunction(const Bind **function, void *, const char *name) {
    const auto found = kernels().find(name);
    if (found == kernels().end())
        return NOT_FOUND;
    *function = &found->second;
    return SUCCESS;
}
// Whether a GPU is lost: `lost:GPU:FILE`, it is once there is such a file.
static bool is_lost() {
    const char *fault = getenv("SCONCE_EMULATED_FAULT");
    int index = 0, path = 0;
    return fault && sscanf(fault, "lost:%d:%n", &index, &path) == 1 && path && current == &gpu(index) &&
           access(fault + path, F_OK) == 0;
}

API int cuLaunchKernel(const Bind *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                       unsigned threads_z, unsigned, Stream *stream, void **arguments, void **) {
    if (!x || !y || !z || !threads || threads > 1024 || threads_y != 1 || threads_z != 1 || y > 65535 || z > 65535)
        return INVALID_VALUE;
    if (is_lost())
        return LAUNCH_FAILED;
    of(stream).add([kernel = (*function)(arguments), grid = Dim{x, y, z}, threads] {
        static std::mutex one_at_a_time; // what is shared by the threads of a block is static
        static unsigned seed = 0;
        std::lock_guard<std::mutex> held(one_at_a_time);
        launch(grid, threads, ++seed, kernel);
    });
    return SUCCESS;
}

// cuBLAS: products of matrices by columns.

struct Blas {
    Stream *stream = nullptr;
};

static float load(const void *from, size_t index, int type) {
    switch (type) {
    case 0: return ((const float *)from)[index];
    case 2: return wide(((const f16 *)from)[index]);
    default: return wide(((const bf16 *)from)[index]);
    }
}
static void store(void *to, size_t index, int type, float value) {
    switch (type) {
    case 0: ((float *)to)[index] = value; break;
    case 2: narrow(value, ((f16 *)to)[index]); break;
    default: narrow(value, ((bf16 *)to)[index]);
    }
}

API int cublasCreate_v2(Blas **handle) { return *handle = new Blas, SUCCESS; }
API int cublasDestroy_v2(Blas *handle) { return delete handle, SUCCESS; }
API int cublasSetStream_v2(Blas *handle, Stream *stream) { return handle->stream = stream, SUCCESS; }
API int cublasSetMathMode(Blas *, int) { return SUCCESS; }
API int cublasSetWorkspace_v2(Blas *, void *, size_t) { return SUCCESS; }
API int cublasGemmStridedBatchedEx(Blas *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha,
                                   const void *a, int type_a, int stride_a, long long step_a, const void *b, int type_b,
                                   int stride_b, long long step_b, const void *beta, void *c, int type_c, int stride_c,
                                   long long step_c, int batch, int, int) {
    if (*(const float *)alpha != 1.0f || *(const float *)beta != 0.0f || m <= 0 || n <= 0 || k <= 0)
        return 7; // CUBLAS_STATUS_INVALID_VALUE
    if (stride_a < (turn_a ? k : m) || stride_b < (turn_b ? n : k) || stride_c < m)
        return 7;
    of(handle->stream).add([=] {
        for (long long matrix = 0; matrix < batch; ++matrix)
            for (int column = 0; column < n; ++column)
                for (int row = 0; row < m; ++row) {
                    float sum = 0.0f;
                    for (int i = 0; i < k; ++i) {
                        const size_t at_a = turn_a ? (size_t)row * stride_a + i : (size_t)i * stride_a + row;
                        const size_t at_b = turn_b ? (size_t)i * stride_b + column : (size_t)column * stride_b + i;
                        sum += load(a, matrix * step_a + at_a, type_a) * load(b, matrix * step_b + at_b, type_b);
                    }
                    store(c, matrix * step_c + (size_t)column * stride_c + row, type_c, sum);
                }
    });
    return SUCCESS;
}

API int cublasGemmEx(Blas *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a, int type_a,
                     int stride_a, const void *b, int type_b, int stride_b, const void *beta, void *c, int type_c,
                     int stride_c, int compute, int algorithm) {
    return cublasGemmStridedBatchedEx(handle, turn_a, turn_b, m, n, k, alpha, a, type_a, stride_a, 0, b, type_b, stride_b, 0,
                                      beta, c, type_c, stride_c, 0, 1, compute, algorithm);
}

// cuRAND: candle makes a generator with each device, and sconce asks it for nothing.

API int curandCreateGenerator(void **generator, int) { return *generator = malloc(1), SUCCESS; }
API int curandDestroyGenerator(void *generator) { return free(generator), SUCCESS; }
API int curandSetStream(void *, Stream *) { return SUCCESS; }
API int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return SUCCESS; }
API int curandSetGeneratorOffset(void *, unsigned long long) { return SUCCESS; }

// NCCL: ranks that are threads of this process. A collective waits on its stream for all ranks, or to be aborted.

struct Group {
    std::mutex lock;
    std::condition_variable changed;
    int world = 0, joined = 0, arrived = 0, left = 0;
    uint64_t generation = 0;
    bool aborted = false;
    std::vector<const void *> parts;
    std::vector<size_t> counts;

    // Calls `use` with what all brought, once they have; the last to leave lets the next collective begin.
    template <typename Use> void exchange(int rank, const void *part, size_t count, Use use) {
        std::unique_lock<std::mutex> held(lock);
        changed.wait(held, [&] { return aborted || left == 0; });
        parts[rank] = part;
        counts[rank] = count;
        const uint64_t mine = generation;
        if (++arrived == world) {
            arrived = 0;
            left = world;
            ++generation;
            changed.notify_all();
        }
        changed.wait(held, [&] { return aborted || generation != mine; });
        if (aborted)
            return;
        for (size_t other : counts)
            if (other != count) {
                fprintf(stderr, "ranks come to a collective with %zu and %zu numbers\n", count, other);
                abort();
            }
        use(parts);
        // Results are written after all have read: in place is allowed.
        if (--left == 0)
            changed.notify_all();
        changed.wait(held, [&] { return aborted || left == 0; });
    }
};

struct Comm {
    std::shared_ptr<Group> group;
    int rank;
    std::atomic<int> collectives{0};
};

struct UniqueId {
    char bytes[128];
};

static std::mutex groups_lock;
static std::map<uint64_t, std::shared_ptr<Group>> groups;

API int ncclGetVersion(int *version) { return *version = (int)number("SCONCE_EMULATED_NCCL", 23007), SUCCESS; }
API const char *ncclGetErrorString(int) { return "emulated"; }
API const char *ncclGetLastError(void *) { return "emulated"; }
API int ncclGetUniqueId(UniqueId *id) {
    static uint64_t next = 0;
    std::lock_guard<std::mutex> held(groups_lock);
    memset(id, 0, sizeof *id);
    ++next;
    memcpy(id->bytes, &next, sizeof next);
    return SUCCESS;
}
API int ncclCommInitRankConfig(Comm **comm, int world, UniqueId id, int rank, void *) {
    uint64_t key;
    memcpy(&key, id.bytes, sizeof key);
    std::lock_guard<std::mutex> held(groups_lock);
    auto &group = groups[key];
    if (!group) {
        group = std::make_shared<Group>();
        group->world = world;
        group->parts.resize(world);
        group->counts.resize(world);
    }
    ++group->joined;
    *comm = new Comm{group, rank};
    return SUCCESS;
}
API int ncclCommGetAsyncError(Comm *comm, int *state) {
    std::lock_guard<std::mutex> held(groups_lock);
    *state = comm->group->joined >= comm->group->world ? SUCCESS : 7; // ncclInProgress
    return SUCCESS;
}
API int ncclCommAbort(Comm *comm) {
    std::lock_guard<std::mutex> held(comm->group->lock);
    comm->group->aborted = true;
    comm->group->changed.notify_all();
    return SUCCESS; // a stream may still be in a collective of it
}

static size_t size_of_type(int type) { return type == 7 ? 4 : type == 6 || type == 9 ? 2 : 1; }
static int cuda_type(int type) { return type == 7 ? 0 : type == 6 ? 2 : 14; }

// Whether the fault that is asked for befalls this collective.
static bool never_comes(Comm *comm) {
    const char *fault = getenv("SCONCE_EMULATED_FAULT");
    int rank = 0, count = 0;
    const int at = comm->collectives++;
    return fault && sscanf(fault, "allreduce:%d:%d", &rank, &count) == 2 && comm->rank == rank && at == count;
}

API int ncclAllReduce(const void *from, void *to, size_t count, int type, int, Comm *comm, Stream *stream) {
    of(stream).add([=, lost = never_comes(comm)] {
        if (lost) {
            std::unique_lock<std::mutex> held(comm->group->lock);
            comm->group->changed.wait(held, [&] { return comm->group->aborted; });
            return;
        }
        std::vector<float> sums(count, 0.0f);
        comm->group->exchange(comm->rank, from, count, [&](const std::vector<const void *> &parts) {
            for (const void *part : parts)
                for (size_t i = 0; i < count; ++i)
                    sums[i] += load(part, i, cuda_type(type));
        });
        for (size_t i = 0; i < count; ++i)
            store(to, i, cuda_type(type), sums[i]);
    });
    return SUCCESS;
}
API int ncclAllGather(const void *from, void *to, size_t count, int type, Comm *comm, Stream *stream) {
    of(stream).add([=] {
        const size_t bytes = count * size_of_type(type);
        std::vector<char> all(bytes * comm->group->world);
        comm->group->exchange(comm->rank, from, count, [&](const std::vector<const void *> &parts) {
            for (size_t rank = 0; rank < parts.size(); ++rank)
                memcpy(all.data() + rank * bytes, parts[rank], bytes);
        });
        memcpy(to, all.data(), all.size());
    });
    return SUCCESS;
}
