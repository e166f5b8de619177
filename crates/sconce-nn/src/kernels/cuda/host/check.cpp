// Runs one kernel on the host for a test: what it is given comes from standard input, what it makes goes to standard
// output. Every array is its length as u64 and so many words of four bytes; numbers are f32 on both sides.
#define HOST_EMULATION
#include "../elementwise.cuh"
#include "../gate.cuh"
#include "../norm.cuh"
#include "../paged.cuh"
#include "../pick.cuh"
#include "../prompt.cuh"
#include "../rows.cuh"

#include <string>

template <typename V> static std::vector<V> read() {
    static_assert(sizeof(V) == 4, "words");
    uint64_t length = 0;
    if (fread(&length, sizeof length, 1, stdin) != 1) {
        fprintf(stderr, "the input ends early\n");
        exit(1);
    }
    std::vector<V> words(length);
    if (fread(words.data(), 4, length, stdin) != length) {
        fprintf(stderr, "an array ends early\n");
        exit(1);
    }
    return words;
}

template <typename V> static void write(const std::vector<V> &words) {
    const uint64_t length = words.size();
    fwrite(&length, sizeof length, 1, stdout);
    fwrite(words.data(), 4, length, stdout);
}

template <typename T> static std::vector<T> narrowed(const std::vector<float> &numbers) {
    std::vector<T> out(numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i)
        narrow(numbers[i], out[i]);
    return out;
}

template <typename T> static std::vector<float> widened(const std::vector<T> &numbers) {
    std::vector<float> out(numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i)
        out[i] = wide(numbers[i]);
    return out;
}

template <typename V> static const V *or_null(const std::vector<V> &words) {
    return words.empty() ? nullptr : words.data();
}

// Numbers that nobody may use.
template <typename T> static std::vector<T> nothing(size_t count) {
    return narrowed<T>(std::vector<float>(count, NAN));
}

// The same by tiles of the tokens that follow each other in `asked`, at most `tile` in each.
template <typename T, int HEAD> struct Prompt {
    static void run(const std::vector<T> &queries, const T *keys, const T *values, const std::vector<uint32_t> &tables,
                    const std::vector<uint32_t> &rows, const std::vector<uint32_t> &positions, const Scoring &how,
                    int heads, int kv_heads, int most, unsigned tile, unsigned seed, std::vector<T> &out) {
        std::vector<uint32_t> tiles;
        for (uint32_t token = 0; token < rows.size(); ++token) {
            const bool goes_on = token > 0 && rows[token] == rows[token - 1] && positions[token] == positions[token - 1] + 1;
            if (!goes_on || tiles.back() == tile) {
                tiles.push_back(token);
                tiles.push_back(0);
            }
            ++tiles.back();
        }
        const unsigned count = tiles.size() / 2, items = count * (heads / kv_heads);
        launch({(items + WARPS - 1) / WARPS, (unsigned)kv_heads}, WARPS * 32, seed, [&] {
            attend_prompt<T, HEAD>(queries.data(), keys, values, tables.data(), rows.data(), positions.data(), tiles.data(),
                                   count, how, heads, kv_heads, HEAD, most, out.data());
        });
    }
};
template <int HEAD> struct Prompt<float, HEAD> {
    template <typename... A> static void run(A &&...) {}
};

template <typename T> static void step(unsigned seed) {
    const auto sizes = read<uint32_t>();
    const int heads = sizes[0], kv_heads = sizes[1], head = sizes[2], dim = sizes[3], blocks = sizes[4], most = sizes[5],
              tile = sizes[6];
    const unsigned of_prompt = sizes[7]; // tokens of a tile
    const auto how = read<float>();
    const auto slopes = read<float>();
    auto q = narrowed<T>(read<float>());
    const auto k = narrowed<T>(read<float>()), v = narrowed<T>(read<float>());
    const auto cos = read<float>(), sin = read<float>();
    const auto positions = read<uint32_t>(), slots = read<uint32_t>(), rows = read<uint32_t>(),
               tables = read<uint32_t>(), asked = read<uint32_t>();
    const size_t cached = (size_t)blocks * kv_heads * BLOCK * head;
    // A cache block is read sixteen bytes at a time.
    auto room_of_keys = nothing<T>(cached + 16), values = nothing<T>(cached);
    T *keys = (T *)(((uintptr_t)room_of_keys.data() + 15) / 16 * 16);
    launch({(unsigned)positions.size(), (unsigned)(heads + 2 * kv_heads)}, 64, seed, [&] {
        rotate_and_write<T>(q.data(), k.data(), v.data(), keys, values.data(), cos.data(), sin.data(),
                            positions.data(), slots.data(), heads, kv_heads, head, head, dim);
    });
    // Of the tokens that are in the cache now some ask.
    const unsigned tokens = asked.size();
    std::vector<T> queries;
    std::vector<uint32_t> places_of_asked, rows_of_asked;
    uint32_t longest = 0;
    for (uint32_t token : asked) {
        const auto first = q.begin() + (size_t)token * heads * head;
        queries.insert(queries.end(), first, first + heads * head);
        places_of_asked.push_back(positions[token]);
        rows_of_asked.push_back(rows[token]);
        longest = max(longest, positions[token] + 1);
    }
    Scoring scoring{how[0], (uint32_t)how[1], how[2], or_null(slopes), (int)how[3], how[4]};
    const unsigned splits = (longest + SPLIT - 1) / SPLIT;
    const unsigned tiles = (heads / kv_heads + tile - 1) / tile;
    const size_t places = (size_t)tokens * splits * heads;
    auto largest = nothing<float>(places), total = nothing<float>(places), sums = nothing<float>(places * head);
    const Dim grid{tokens, kv_heads * tiles, splits};
    auto run = [&](auto kernel) {
        launch(grid, WARPS * 32, seed, [&] {
            kernel(queries.data(), keys, values.data(), tables.data(), rows_of_asked.data(), places_of_asked.data(),
                   scoring, heads, kv_heads, head, most, largest.data(), total.data(), sums.data());
        });
    };
    switch (head * 100 + tile) {
    case 6401:
        run(attend<T, 64, 1>);
        break;
    case 6404:
        run(attend<T, 64, 4>);
        break;
    case 8002:
        run(attend<T, 80, 2>);
        break;
    case 12808:
        run(attend<T, 128, 8>);
        break;
    case 25602:
        run(attend<T, 256, 2>);
        break;
    default:
        fprintf(stderr, "no kernel for heads of %d by %d\n", head, tile);
        exit(1);
    }
    auto out = nothing<T>((size_t)tokens * heads * head);
    launch({tokens, (unsigned)heads}, 64, seed, [&] {
        join<T>(largest.data(), total.data(), sums.data(), places_of_asked.data(), scoring.window, splits, heads, head,
                head, out.data());
    });
    auto on_tiles = nothing<T>(out.size());
    auto prompt = [&](auto run) {
        run(queries, keys, values.data(), tables, rows_of_asked, places_of_asked, scoring, heads, kv_heads, most, of_prompt,
            seed, on_tiles);
    };
    switch (head) {
    case 64:
        prompt([](auto &&...all) { Prompt<T, 64>::run(all...); });
        break;
    case 80:
        prompt([](auto &&...all) { Prompt<T, 80>::run(all...); });
        break;
    case 128:
        prompt([](auto &&...all) { Prompt<T, 128>::run(all...); });
        break;
    default:
        prompt([](auto &&...all) { Prompt<T, 256>::run(all...); });
    }
    write(widened(q));
    write(widened(out));
    write(widened(on_tiles));
}

template <typename T> static void norm(unsigned seed) {
    const auto how = read<float>();
    const auto x = narrowed<T>(read<float>()), y = narrowed<T>(read<float>());
    const auto weight = read<float>(), bias = read<float>();
    const unsigned width = weight.size(), rows = x.size() / width;
    auto sum = nothing<T>(y.size()), out = nothing<T>(x.size());
    launch({rows}, 96, seed, [&] {
        add_and_normalise<T>(x.data(), or_null(y), weight.data(), or_null(bias), how[0], how[1] != 0.0f, sum.data(),
                             out.data(), width);
    });
    write(widened(sum));
    write(widened(out));
}

template <typename T> static void gate(unsigned seed) {
    const auto act = read<uint32_t>();
    const auto x = narrowed<T>(read<float>()), up = narrowed<T>(read<float>());
    auto out = nothing<T>(x.size());
    launch({3}, 64, seed, [&] { gated<T>(x.data(), or_null(up), act[0], out.data(), x.size()); });
    write(widened(out));
}

// `x` is [rows, width]; `ids` name rows from `first` on, and what is beyond is zeros.
template <typename T> static void rows_of(unsigned seed) {
    const auto sizes = read<uint32_t>();
    const int width = sizes[0], start = sizes[2], wanted = sizes[3];
    const auto x = narrowed<T>(read<float>());
    const auto ids = read<uint32_t>(), targets = read<uint32_t>();
    const auto weights = read<float>();
    auto sums = read<float>();
    const unsigned rows = x.size() / width, asked = ids.size(), summands = targets.size();
    auto looked_up = nothing<T>(ids.size() * width), cut = nothing<T>(rows * wanted), joined = nothing<T>(x.size());
    launch({asked}, 64, seed, [&] { gather<T>(x.data(), ids.data(), sizes[1], rows, looked_up.data(), width); });
    launch({rows}, 64, seed, [&] { columns<T>(x.data(), width, start, cut.data(), wanted); });
    launch({rows / 2, 2}, 64, seed, [&] { side_by_side<T>(x.data(), joined.data(), width); });
    launch({summands}, 64, seed, [&] { add_to_rows<T>(x.data(), targets.data(), weights.data(), sums.data(), width); });
    write(widened(looked_up));
    write(widened(cut));
    write(widened(joined));
    write(sums);
}

template <typename T> static void each(unsigned seed) {
    const auto x = narrowed<T>(read<float>()), y = narrowed<T>(read<float>()), weight = narrowed<T>(read<float>());
    const auto how = read<float>(), bias = read<float>();
    const size_t count = x.size();
    auto sum = nothing<T>(count), longer = nothing<T>(count), cut = nothing<T>(count), times = nothing<T>(count),
         back = nothing<T>(count), shifted = x;
    std::vector<float> wider(count, NAN);
    launch({3}, 64, seed, [&] { added<T>(x.data(), y.data(), sum.data(), count); });
    launch({3}, 64, seed, [&] { biased<T>(shifted.data(), bias.data(), bias.size(), count); });
    launch({3}, 64, seed, [&] { scaled<T>(x.data(), how[0], longer.data(), count); });
    launch({3}, 64, seed, [&] { clipped<T>(x.data(), how[1], cut.data(), count); });
    launch({3}, 64, seed, [&] { multiplied<T>(x.data(), weight.data(), (size_t)how[2], weight.size(), times.data(), count); });
    launch({3}, 64, seed, [&] { widened<T>(x.data(), wider.data(), count); });
    launch({3}, 64, seed, [&] { narrowed<T>(wider.data(), back.data(), count); });
    for (const auto &made : {sum, shifted, longer, cut, times, back})
        write(widened(made));
}

// `sizes` are the vocabulary, and room for so many candidates; `counts` are asked of the rows that `rows` names.
template <typename T> static void pick(unsigned seed) {
    const auto sizes = read<uint32_t>();
    const auto logits = narrowed<T>(read<float>());
    const auto rows = read<uint32_t>(), counts = read<uint32_t>();
    const unsigned asked = rows.size(), room = sizes[1];
    std::vector<uint32_t> told(asked * (TOLD + 2 * room), 0xffffffffu);
    launch({asked}, 128, seed,
           [&] { best_of_row<T>(logits.data(), rows.data(), counts.data(), sizes[0], room, told.data()); });
    write(told);
}

template <typename T> static void run(const std::string &kernel, unsigned seed) {
    if (kernel == "step")
        step<T>(seed);
    else if (kernel == "norm")
        norm<T>(seed);
    else if (kernel == "gate")
        gate<T>(seed);
    else if (kernel == "rows")
        rows_of<T>(seed);
    else if (kernel == "each")
        each<T>(seed);
    else
        pick<T>(seed);
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: check KERNEL f32|f16|bf16 SEED < arrays > arrays\n");
        return 1;
    }
    const std::string kernel = arguments[1], type = arguments[2];
    const unsigned seed = std::stoul(arguments[3]);
    if (type == "f32")
        run<float>(kernel, seed);
    else if (type == "f16")
        run<f16>(kernel, seed);
    else
        run<bf16>(kernel, seed);
    return 0;
}
