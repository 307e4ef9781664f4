/*
 * Summary statistics of a CSV table: reads it from stdin, writes a CSV of statistics to stdout.
 *
 * usage: program [--by COLUMN[,COLUMN...]] [--columns COLUMN[,COLUMN...]] [--tolerate N]
 *
 *   --by        one set of statistics for each distinct value of these columns (default: the first column)
 *   --columns   the columns to describe (default: every other column whose first value is a number)
 *   --tolerate  skip up to N rows that cannot be read, saying so on stderr (default: 0)
 *
 * An empty field and NA are missing values. Quoting follows RFC 4180. For each group and column: how many values
 * there are and how many are missing, mean, sample standard deviation, minimum, quartiles (linear interpolation
 * between the closest ranks) and maximum. Groups come in the order in which they first appear.
 *
 * Exit status: 0 done, 1 the table cannot be read, 2 wrong usage.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 256, MAX_NUMBER = 64, GROUP_SEPARATOR = 0x1f };

struct field {
    const char *text;
    size_t length;
};

struct input {
    char *next;
    char *end;
    size_t line; /* of the row read last */
    size_t next_line;
};

struct table {
    struct field header[MAX_COLUMNS];
    size_t width;
    size_t by[MAX_COLUMNS];
    size_t by_count;
    size_t columns[MAX_COLUMNS];
    size_t column_count;
    double *values;   /* rows x column_count; NaN where missing */
    uint32_t *groups; /* the group of each row */
    size_t rows;
    size_t row_capacity;
};

struct groups {
    char **keys;
    uint32_t count;
    uint32_t capacity;
    uint32_t *slots; /* index + 1 into keys; 0 is free */
    uint32_t slot_count;
};

struct options {
    const char *by;
    const char *columns;
    size_t tolerate;
};

static void fail(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(status);
}

static void *resize(void *memory, size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / size)
        fail(1, "the table is too large for this program's memory");
    void *resized = realloc(memory, count * size == 0 ? 1 : count * size);
    if (resized == NULL)
        fail(1, "no memory for %zu x %zu bytes; give the job a larger memory limit", count, size);
    return resized;
}

static struct input read_all(FILE *file) {
    char *data = NULL;
    size_t length = 0, capacity = 1 << 20;
    for (;;) {
        data = resize(data, capacity + 1, 1);
        length += fread(data + length, 1, capacity - length, file);
        if (length < capacity)
            break;
        capacity *= 2;
    }
    if (ferror(file))
        fail(1, "reading the table from stdin: %s", strerror(errno));
    if (memchr(data, '\0', length) != NULL || memchr(data, GROUP_SEPARATOR, length) != NULL)
        fail(1, "the input is no text table: it holds a control character");
    data[length] = '\0';
    struct input input = {.next = data, .end = data + length, .line = 0, .next_line = 1};
    if (length >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0)
        input.next += 3;
    return input;
}

/* Takes one quoted field, undoing its quotes in place; NULL if its quote never closes or text follows it. */
static const char *take_quoted(struct input *input, struct field *field) {
    char *write = ++input->next;
    field->text = write;
    for (; input->next < input->end; input->next++) {
        if (*input->next == '"') {
            if (input->next + 1 < input->end && input->next[1] == '"')
                input->next++;
            else
                break;
        } else if (*input->next == '\n') {
            input->next_line++;
        }
        *write++ = *input->next;
    }
    field->length = (size_t)(write - field->text);
    if (input->next == input->end)
        return "a quoted field does not end";
    input->next++;
    if (input->next < input->end && strchr(",\r\n", *input->next) == NULL)
        return "text follows a closing quote";
    return NULL;
}

static void skip_line(struct input *input) {
    while (input->next < input->end && *input->next != '\n')
        input->next++;
}

/* Reads one row; *complaint says why it cannot be used. False at the end of the input. */
static bool read_row(struct input *input, struct field *fields, size_t *count, const char **complaint) {
    *count = 0;
    *complaint = NULL;
    while (input->next < input->end && (*input->next == '\n' || *input->next == '\r')) {
        input->next_line += *input->next == '\n';
        input->next++;
    }
    if (input->next == input->end)
        return false;
    input->line = input->next_line;
    for (;;) {
        struct field field = {.text = input->next, .length = 0};
        if (input->next < input->end && *input->next == '"') {
            *complaint = take_quoted(input, &field);
        } else {
            while (input->next < input->end && strchr(",\n", *input->next) == NULL)
                input->next++;
            field.length = (size_t)(input->next - field.text);
            bool ends_row = input->next == input->end || *input->next == '\n';
            if (ends_row && field.length > 0 && field.text[field.length - 1] == '\r')
                field.length--;
        }
        if (*complaint == NULL && *count == MAX_COLUMNS)
            *complaint = "more than 256 fields";
        if (*complaint != NULL) {
            skip_line(input);
            return true;
        }
        fields[(*count)++] = field;
        if (input->next < input->end && *input->next == ',') {
            input->next++;
            continue;
        }
        if (input->next < input->end && *input->next == '\r')
            input->next++;
        return true;
    }
}

static bool is_missing(struct field field) {
    return field.length == 0 || (field.length == 2 && memcmp(field.text, "NA", 2) == 0);
}

/* A decimal number and nothing else: what strtod takes besides (hexadecimal, inf, nan, spaces) is refused. */
static bool parse_number(struct field field, double *number) {
    char text[MAX_NUMBER + 1];
    if (field.length == 0 || field.length > MAX_NUMBER)
        return false;
    for (size_t i = 0; i < field.length; i++) {
        if (strchr("0123456789+-.eE", field.text[i]) == NULL)
            return false;
        text[i] = field.text[i];
    }
    text[field.length] = '\0';
    char *end = NULL;
    *number = strtod(text, &end);
    return *end == '\0' && end != text && isfinite(*number);
}

static size_t find_column(const struct table *table, const char *name, size_t length) {
    for (size_t i = 0; i < table->width; i++)
        if (table->header[i].length == length && memcmp(table->header[i].text, name, length) == 0)
            return i;
    fail(2, "the table has no column named %.*s", (int)length, name);
    return 0;
}

static size_t find_columns(const struct table *table, const char *list, size_t *found) {
    size_t count = 0;
    while (*list != '\0') {
        size_t length = strcspn(list, ",");
        if (count == MAX_COLUMNS)
            fail(2, "more than 256 columns are named");
        found[count++] = find_column(table, list, length);
        list += length;
        list += *list == ',';
    }
    if (count == 0)
        fail(2, "an empty list of columns");
    return count;
}

static bool is_named(size_t column, const size_t *named, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (named[i] == column)
            return true;
    return false;
}

/* Reads the header, and ahead until each column has shown a value, to learn which columns hold numbers. */
static void choose_columns(struct table *table, struct input *input, const struct options *options) {
    const char *complaint;
    if (!read_row(input, table->header, &table->width, &complaint))
        fail(1, "the table is empty: no header on stdin");
    if (complaint != NULL)
        fail(1, "line %zu: the header cannot be read: %s", input->line, complaint);
    if (options->by != NULL)
        table->by_count = find_columns(table, options->by, table->by);
    else
        table->by[table->by_count++] = 0;
    if (options->columns != NULL) {
        table->column_count = find_columns(table, options->columns, table->columns);
        return;
    }
    enum { UNKNOWN, NUMBER, TEXT } kinds[MAX_COLUMNS] = {UNKNOWN};
    size_t unknown = table->width;
    for (const char *start = input->next; unknown > 0 && start < input->end;) {
        const char *line_end = memchr(start, '\n', (size_t)(input->end - start));
        size_t length = (size_t)((line_end == NULL ? input->end : line_end) - start);
        /* A copy, since reading a row undoes its quotes in place. */
        char *copy = memcpy(resize(NULL, length + 1, 1), start, length);
        struct input row = {.next = copy, .end = copy + length};
        struct field fields[MAX_COLUMNS];
        size_t count;
        bool read = read_row(&row, fields, &count, &complaint) && complaint == NULL && count == table->width;
        for (size_t i = 0; read && i < count; i++) {
            double number;
            if (kinds[i] != UNKNOWN || is_missing(fields[i]))
                continue;
            kinds[i] = parse_number(fields[i], &number) ? NUMBER : TEXT;
            unknown--;
        }
        free(copy);
        start += length + 1;
    }
    for (size_t i = 0; i < table->width; i++)
        if (kinds[i] == NUMBER && !is_named(i, table->by, table->by_count))
            table->columns[table->column_count++] = i;
    if (table->column_count == 0)
        fail(1, "no column holds numbers");
}

static uint64_t hash(const char *key) {
    uint64_t value = 0xcbf29ce484222325;
    for (; *key != '\0'; key++)
        value = (value ^ (unsigned char)*key) * 0x100000001b3;
    return value;
}

static uint32_t *find_slot(const struct groups *groups, const char *key) {
    uint32_t mask = groups->slot_count - 1;
    uint32_t slot = (uint32_t)hash(key) & mask;
    while (groups->slots[slot] != 0 && strcmp(groups->keys[groups->slots[slot] - 1], key) != 0)
        slot = (slot + 1) & mask;
    return &groups->slots[slot];
}

static void grow_groups(struct groups *groups) {
    groups->capacity = groups->capacity == 0 ? 64 : groups->capacity * 2;
    groups->keys = resize(groups->keys, groups->capacity, sizeof *groups->keys);
    groups->slot_count = groups->capacity * 2;
    groups->slots = resize(groups->slots, groups->slot_count, sizeof *groups->slots);
    memset(groups->slots, 0, groups->slot_count * sizeof *groups->slots);
    for (uint32_t i = 0; i < groups->count; i++)
        *find_slot(groups, groups->keys[i]) = i + 1;
}

static uint32_t group_of(struct groups *groups, const struct table *table, const struct field *fields) {
    size_t length = 0;
    for (size_t i = 0; i < table->by_count; i++)
        length += fields[table->by[i]].length + 1;
    char *key = resize(NULL, length, 1);
    char *write = key;
    for (size_t i = 0; i < table->by_count; i++) {
        struct field field = fields[table->by[i]];
        memcpy(write, field.text, field.length);
        write += field.length;
        *write++ = i + 1 == table->by_count ? '\0' : GROUP_SEPARATOR;
    }
    if (groups->count == groups->capacity)
        grow_groups(groups);
    uint32_t *slot = find_slot(groups, key);
    if (*slot != 0) {
        free(key);
        return *slot - 1;
    }
    groups->keys[groups->count++] = key;
    *slot = groups->count;
    return groups->count - 1;
}

/* Reads the numbers of one row into `values`; returns the column that holds none, or `width`. */
static size_t read_numbers(const struct table *table, const struct field *fields, double *values) {
    for (size_t i = 0; i < table->column_count; i++) {
        size_t column = table->columns[i];
        if (is_missing(fields[column]))
            values[i] = NAN;
        else if (!parse_number(fields[column], &values[i]))
            return column;
    }
    return table->width;
}

static void complain(size_t *bad, size_t tolerate, size_t line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: line %zu: ", *bad < tolerate ? "skipped" : "error", line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    if (++*bad > tolerate)
        fail(1, "rows that cannot be read: %zu, tolerated: %zu", *bad, tolerate);
}

static void read_rows(struct table *table, struct groups *groups, struct input *input, size_t tolerate) {
    struct field fields[MAX_COLUMNS];
    const char *complaint;
    size_t count, bad = 0;
    while (read_row(input, fields, &count, &complaint)) {
        if (complaint != NULL) {
            complain(&bad, tolerate, input->line, "%s", complaint);
            continue;
        }
        if (count != table->width) {
            complain(&bad, tolerate, input->line, "%zu fields where the header has %zu", count, table->width);
            continue;
        }
        if (table->rows == table->row_capacity) {
            table->row_capacity = table->row_capacity == 0 ? 1024 : table->row_capacity * 2;
            table->groups = resize(table->groups, table->row_capacity, sizeof *table->groups);
            table->values = resize(table->values, table->row_capacity, table->column_count * sizeof *table->values);
        }
        size_t wrong = read_numbers(table, fields, table->values + table->rows * table->column_count);
        if (wrong != table->width) {
            complain(&bad, tolerate, input->line, "column %.*s holds no number: %.*s",
                     (int)table->header[wrong].length, table->header[wrong].text,
                     (int)(fields[wrong].length < 40 ? fields[wrong].length : 40), fields[wrong].text);
            continue;
        }
        table->groups[table->rows++] = group_of(groups, table, fields);
    }
    if (table->rows == 0)
        fail(1, "the table has no rows");
}

static int compare_numbers(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

struct sum {
    double total;
    double lost;
};

/* Neumaier's summation: the error does not grow with the number of rows. */
static void add(struct sum *sum, double value) {
    double total = sum->total + value;
    sum->lost += fabs(sum->total) >= fabs(value) ? (sum->total - total) + value : (value - total) + sum->total;
    sum->total = total;
}

static double quantile(const double *sorted, size_t count, double share) {
    double rank = (double)(count - 1) * share;
    size_t below = (size_t)rank;
    if (below + 1 >= count)
        return sorted[count - 1];
    return sorted[below] + (rank - (double)below) * (sorted[below + 1] - sorted[below]);
}

static void print_statistics(double *values, size_t count) {
    if (count == 0) {
        fputs(",NA,NA,NA,NA,NA,NA,NA\n", stdout);
        return;
    }
    qsort(values, count, sizeof *values, compare_numbers);
    struct sum sum = {0}, squares = {0};
    for (size_t i = 0; i < count; i++)
        add(&sum, values[i]);
    double mean = (sum.total + sum.lost) / (double)count;
    for (size_t i = 0; i < count; i++)
        add(&squares, (values[i] - mean) * (values[i] - mean));
    printf(",%.6f", mean);
    if (count > 1)
        printf(",%.6f", sqrt((squares.total + squares.lost) / (double)(count - 1)));
    else
        fputs(",NA", stdout);
    for (int quarter = 0; quarter <= 4; quarter++)
        printf(",%.6f", quantile(values, count, quarter / 4.0));
    putchar('\n');
}

static void print_field(const char *text, size_t length) {
    bool quote = false;
    for (size_t i = 0; i < length; i++)
        quote = quote || strchr(",\"\r\n", text[i]) != NULL;
    if (quote)
        putchar('"');
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '"')
            putchar('"');
        putchar(text[i]);
    }
    if (quote)
        putchar('"');
}

static void print_key(const char *key) {
    for (;;) {
        const char *end = strchr(key, GROUP_SEPARATOR);
        size_t length = end == NULL ? strlen(key) : (size_t)(end - key);
        print_field(key, length);
        putchar(',');
        if (end == NULL)
            return;
        key = end + 1;
    }
}

static void print_table(const struct table *table, const struct groups *groups) {
    for (size_t i = 0; i < table->by_count; i++) {
        print_field(table->header[table->by[i]].text, table->header[table->by[i]].length);
        putchar(',');
    }
    puts("column,count,missing,mean,sd,min,q1,median,q3,max");
    size_t *starts = resize(NULL, (size_t)groups->count + 1, sizeof *starts);
    memset(starts, 0, ((size_t)groups->count + 1) * sizeof *starts);
    for (size_t row = 0; row < table->rows; row++)
        starts[table->groups[row] + 1]++;
    for (uint32_t group = 0; group < groups->count; group++)
        starts[group + 1] += starts[group];
    size_t *order = resize(NULL, table->rows, sizeof *order);
    size_t *next = memcpy(resize(NULL, groups->count, sizeof *next), starts, groups->count * sizeof *next);
    for (size_t row = 0; row < table->rows; row++)
        order[next[table->groups[row]]++] = row;
    double *values = resize(NULL, table->rows, sizeof *values);
    for (uint32_t group = 0; group < groups->count; group++) {
        for (size_t column = 0; column < table->column_count; column++) {
            size_t count = 0, total = starts[group + 1] - starts[group];
            for (size_t i = starts[group]; i < starts[group + 1]; i++) {
                double value = table->values[order[i] * table->column_count + column];
                if (!isnan(value))
                    values[count++] = value;
            }
            print_key(groups->keys[group]);
            print_field(table->header[table->columns[column]].text, table->header[table->columns[column]].length);
            printf(",%zu,%zu", count, total - count);
            print_statistics(values, count);
        }
    }
}

static struct options read_options(int count, char **arguments) {
    struct options options = {0};
    for (int i = 1; i < count; i += 2) {
        if (i + 1 == count)
            fail(2, "%s needs a value; usage: program [--by C,C] [--columns C,C] [--tolerate N]", arguments[i]);
        const char *value = arguments[i + 1];
        if (strcmp(arguments[i], "--by") == 0) {
            options.by = value;
        } else if (strcmp(arguments[i], "--columns") == 0) {
            options.columns = value;
        } else if (strcmp(arguments[i], "--tolerate") == 0) {
            if (*value == '\0' || strlen(value) > 9 || strspn(value, "0123456789") != strlen(value))
                fail(2, "--tolerate takes a number of rows, not %s", value);
            options.tolerate = strtoul(value, NULL, 10);
        } else {
            fail(2, "unknown option %s; usage: program [--by C,C] [--columns C,C] [--tolerate N]", arguments[i]);
        }
    }
    return options;
}

int main(int argument_count, char **arguments) {
    struct options options = read_options(argument_count, arguments);
    struct input input = read_all(stdin);
    static struct table table;
    struct groups groups = {0};
    choose_columns(&table, &input, &options);
    read_rows(&table, &groups, &input, options.tolerate);
    print_table(&table, &groups);
    if (fflush(stdout) != 0 || ferror(stdout))
        fail(1, "writing the statistics: %s", strerror(errno));
    return 0;
}
