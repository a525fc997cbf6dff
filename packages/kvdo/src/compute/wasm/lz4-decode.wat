;; Decodes one raw LZ4 block (no frame, no size in front) of exactly 4096 bytes.
;;
;; Memory: source at 0, up to 4096 bytes; target at 8192, 4096 bytes. Up to 15 bytes beyond either may be touched (read or
;; written) by copies that go 8 bytes at a time; the page is larger, so nothing else is there.
;; Every length and distance is checked before it is used: no input can trap or reach another place.
(module
  (memory (export "memory") 1)

  ;; Copies $length bytes forward, 8 at a time: $to - $from is at least 8, or they do not overlap.
  (func $copy8 (param $to i32) (param $from i32) (param $length i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $to) (local.get $length)))
    (loop $more
      (i64.store (local.get $to) (i64.load (local.get $from)))
      (local.set $from (i32.add (local.get $from) (i32.const 8)))
      (br_if $more (i32.lt_u
        (local.tee $to (i32.add (local.get $to) (i32.const 8)))
        (local.get $end)))))

  ;; Copies $length bytes one by one from $distance before, so that an overlapping match repeats itself.
  (func $copy1 (param $to i32) (param $distance i32) (param $length i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $to) (local.get $length)))
    (loop $more
      (i32.store8 (local.get $to) (i32.load8_u (i32.sub (local.get $to) (local.get $distance))))
      (br_if $more (i32.lt_u
        (local.tee $to (i32.add (local.get $to) (i32.const 1)))
        (local.get $end)))))

  ;; Copies a long match: what is there twice has also twice the distance, so each step copies twice as much. (Reading
  ;; what was just written, 8 bytes at a time, is slow: loads that span two recent stores wait for both.)
  (func $copyLong (param $to i32) (param $distance i32) (param $length i32)
    (local $step i32)
    (loop $more
      (local.set $step (select (local.get $distance) (local.get $length)
        (i32.lt_u (local.get $distance) (local.get $length))))
      (memory.copy (local.get $to) (i32.sub (local.get $to) (local.get $distance)) (local.get $step))
      (local.set $to (i32.add (local.get $to) (local.get $step)))
      (local.set $distance (i32.add (local.get $distance) (local.get $step)))
      (br_if $more (local.tee $length (i32.sub (local.get $length) (local.get $step))))))

  ;; 1 when the $size bytes of the source decode to exactly 4096 bytes, else 0.
  (func (export "decode") (param $size i32) (result i32)
    (local $in i32) (local $out i32) (local $token i32) (local $length i32) (local $byte i32) (local $distance i32)
    (local.set $out (i32.const 8192))
    (loop $sequences
      (if (i32.ge_u (local.get $in) (local.get $size)) (then (return (i32.const 0))))
      (local.set $token (i32.load8_u (local.get $in)))
      (local.set $in (i32.add (local.get $in) (i32.const 1)))

      ;; Literals.
      (local.set $length (i32.shr_u (local.get $token) (i32.const 4)))
      (if (i32.eq (local.get $length) (i32.const 15)) (then
        (loop $extend
          (if (i32.ge_u (local.get $in) (local.get $size)) (then (return (i32.const 0))))
          (local.set $byte (i32.load8_u (local.get $in)))
          (local.set $in (i32.add (local.get $in) (i32.const 1)))
          (local.set $length (i32.add (local.get $length) (local.get $byte)))
          (br_if $extend (i32.eq (local.get $byte) (i32.const 255))))))
      (if (local.get $length) (then
        (if (i32.gt_u (local.get $length) (i32.sub (local.get $size) (local.get $in))) (then (return (i32.const 0))))
        (if (i32.gt_u (local.get $length) (i32.sub (i32.const 12288) (local.get $out))) (then (return (i32.const 0))))
        (if (i32.ge_u (local.get $length) (i32.const 128))
          (then (memory.copy (local.get $out) (local.get $in) (local.get $length)))
          (else (call $copy8 (local.get $out) (local.get $in) (local.get $length))))
        (local.set $in (i32.add (local.get $in) (local.get $length)))
        (local.set $out (i32.add (local.get $out) (local.get $length)))))

      ;; The last sequence has no match.
      (if (i32.eq (local.get $in) (local.get $size)) (then
        (return (i32.eq (local.get $out) (i32.const 12288)))))

      ;; Match.
      (if (i32.lt_u (i32.sub (local.get $size) (local.get $in)) (i32.const 2)) (then (return (i32.const 0))))
      (local.set $distance (i32.load16_u (local.get $in)))
      (local.set $in (i32.add (local.get $in) (i32.const 2)))
      (if (i32.eqz (local.get $distance)) (then (return (i32.const 0))))
      (if (i32.gt_u (local.get $distance) (i32.sub (local.get $out) (i32.const 8192))) (then (return (i32.const 0))))
      (local.set $length (i32.and (local.get $token) (i32.const 15)))
      (if (i32.eq (local.get $length) (i32.const 15)) (then
        (loop $extend
          (if (i32.ge_u (local.get $in) (local.get $size)) (then (return (i32.const 0))))
          (local.set $byte (i32.load8_u (local.get $in)))
          (local.set $in (i32.add (local.get $in) (i32.const 1)))
          (local.set $length (i32.add (local.get $length) (local.get $byte)))
          (br_if $extend (i32.eq (local.get $byte) (i32.const 255))))))
      (local.set $length (i32.add (local.get $length) (i32.const 4)))
      (if (i32.gt_u (local.get $length) (i32.sub (i32.const 12288) (local.get $out))) (then (return (i32.const 0))))
      (if (i32.ge_u (local.get $length) (i32.const 64))
        (then (call $copyLong (local.get $out) (local.get $distance) (local.get $length)))
        (else (if (i32.ge_u (local.get $distance) (i32.const 8))
          (then (call $copy8 (local.get $out) (i32.sub (local.get $out) (local.get $distance)) (local.get $length)))
          (else (call $copy1 (local.get $out) (local.get $distance) (local.get $length))))))
      (local.set $out (i32.add (local.get $out) (local.get $length)))
      (br $sequences))
    (unreachable)))
