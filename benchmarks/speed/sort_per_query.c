/* Market-1501 scores as compiled re-ID code computes them: for each query a sort of all its distances, then one pass. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    float distance;
    int32_t index;
} Image;

/* Stable merge sort: runs of 16 by insertion, then merged. Returns whichever of the two buffers has the result. */
static Image *sorted(Image *images, Image *other, int64_t count) {
    for (int64_t start = 0; start < count; start += 16) {
        int64_t end = start + 16 < count ? start + 16 : count;
        for (int64_t i = start + 1; i < end; i++) {
            Image image = images[i];
            int64_t place = i;
            for (; place > start && images[place - 1].distance > image.distance; place--)
                images[place] = images[place - 1];
            images[place] = image;
        }
    }
    for (int64_t width = 16; width < count; width *= 2) {
        for (int64_t start = 0; start < count; start += 2 * width) {
            int64_t middle = start + width < count ? start + width : count;
            int64_t end = start + 2 * width < count ? start + 2 * width : count;
            int64_t left = start, right = middle, place = start;
            while (left < middle && right < end) {
                int later = images[right].distance < images[left].distance;
                other[place++] = later ? images[right] : images[left];
                right += later;
                left += !later;
            }
            memcpy(other + place, images + left, (middle - left) * sizeof(Image));
            memcpy(other + place + middle - left, images + right, (end - right) * sizeof(Image));
        }
        Image *result = other;
        other = images;
        images = result;
    }
    return images;
}

/* scores: CMC at rank 1 and mAP. Returns 0, or 1 if there is no memory. */
int score(const float *distances, int64_t num_query, int64_t num_gallery, const int64_t *query_ids,
          const int64_t *gallery_ids, const int64_t *query_cameras, const int64_t *gallery_cameras, double *scores) {
    Image *buffers = malloc(2 * num_gallery * sizeof(Image));
    if (!buffers)
        return 1;
    double first_hits = 0, precisions = 0;
    int64_t num_valid = 0;
    for (int64_t query = 0; query < num_query; query++) {
        for (int64_t i = 0; i < num_gallery; i++)
            buffers[i] = (Image){distances[query * num_gallery + i], (int32_t)i};
        const Image *ranking = sorted(buffers, buffers + num_gallery, num_gallery);
        int64_t rank = 0, found = 0;
        double precision = 0, first = 0;
        for (int64_t i = 0; i < num_gallery; i++) {
            int64_t image = ranking[i].index;
            int same = gallery_ids[image] == query_ids[query];
            if (gallery_ids[image] == -1 || (same && gallery_cameras[image] == query_cameras[query]))
                continue;
            rank++;
            if (same) {
                precision += (double)++found / rank;
                first += rank == 1;
            }
        }
        if (found) {
            num_valid++;
            first_hits += first;
            precisions += precision / found;
        }
    }
    free(buffers);
    scores[0] = first_hits / num_valid;
    scores[1] = precisions / num_valid;
    return 0;
}
