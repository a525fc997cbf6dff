;; MurmurHash3 x64-128 over blocks of 4096 bytes.
;;
;; Memory: block i of a batch at i × 4096, for 256 blocks; its 16-byte name at 1048576 + i × 16.
;; Two blocks are hashed side by side, because one alone is limited by the latency of its own chain.
;; A lone last block is hashed twice beside itself; both write the same name.
(module
  (memory (export "memory") 17)

  (func $mix (param $k i64) (result i64)
    (local.set $k (i64.xor (local.get $k) (i64.shr_u (local.get $k) (i64.const 33))))
    (local.set $k (i64.mul (local.get $k) (i64.const 0xff51afd7ed558ccd)))
    (local.set $k (i64.xor (local.get $k) (i64.shr_u (local.get $k) (i64.const 33))))
    (local.set $k (i64.mul (local.get $k) (i64.const 0xc4ceb9fe1a85ec53)))
    (i64.xor (local.get $k) (i64.shr_u (local.get $k) (i64.const 33))))

  ;; Last step: both halves with the length (4096) mixed in, stored at $to.
  (func $finish (param $h1 i64) (param $h2 i64) (param $to i32)
    (local.set $h1 (i64.xor (local.get $h1) (i64.const 4096)))
    (local.set $h2 (i64.xor (local.get $h2) (i64.const 4096)))
    (local.set $h1 (i64.add (local.get $h1) (local.get $h2)))
    (local.set $h2 (i64.add (local.get $h2) (local.get $h1)))
    (local.set $h1 (call $mix (local.get $h1)))
    (local.set $h2 (call $mix (local.get $h2)))
    (local.set $h1 (i64.add (local.get $h1) (local.get $h2)))
    (local.set $h2 (i64.add (local.get $h2) (local.get $h1)))
    (i64.store (local.get $to) (local.get $h1))
    (i64.store offset=8 (local.get $to) (local.get $h2)))

  (func (export "hash") (param $count i32) (param $seed i64)
    (local $block i32) (local $a i32) (local $b i32) (local $other i32) (local $end i32)
    (local $a1 i64) (local $a2 i64) (local $b1 i64) (local $b2 i64)
    (block $done
      (loop $pairs
        (br_if $done (i32.ge_u (local.get $block) (local.get $count)))
        (local.set $other (i32.add (local.get $block) (i32.const 1)))
        (if (i32.ge_u (local.get $other) (local.get $count)) (then (local.set $other (local.get $block))))
        (local.set $a (i32.shl (local.get $block) (i32.const 12)))
        (local.set $b (i32.shl (local.get $other) (i32.const 12)))
        (local.set $end (i32.add (local.get $a) (i32.const 4096)))
        (local.set $a1 (local.get $seed))
        (local.set $a2 (local.get $seed))
        (local.set $b1 (local.get $seed))
        (local.set $b2 (local.get $seed))
        (loop $groups
          (local.set $a1 (i64.add (i64.mul (i64.const 5) (i64.add (local.get $a2) (i64.rotl
            (i64.xor (local.get $a1) (i64.mul (i64.const 0x4cf5ad432745937f) (i64.rotl
              (i64.mul (i64.load (local.get $a)) (i64.const 0x87c37b91114253d5)) (i64.const 31))))
            (i64.const 27)))) (i64.const 0x52dce729)))
          (local.set $b1 (i64.add (i64.mul (i64.const 5) (i64.add (local.get $b2) (i64.rotl
            (i64.xor (local.get $b1) (i64.mul (i64.const 0x4cf5ad432745937f) (i64.rotl
              (i64.mul (i64.load (local.get $b)) (i64.const 0x87c37b91114253d5)) (i64.const 31))))
            (i64.const 27)))) (i64.const 0x52dce729)))
          (local.set $a2 (i64.add (i64.mul (i64.const 5) (i64.add (local.get $a1) (i64.rotl
            (i64.xor (local.get $a2) (i64.mul (i64.const 0x87c37b91114253d5) (i64.rotl
              (i64.mul (i64.load offset=8 (local.get $a)) (i64.const 0x4cf5ad432745937f)) (i64.const 33))))
            (i64.const 31)))) (i64.const 0x38495ab5)))
          (local.set $b2 (i64.add (i64.mul (i64.const 5) (i64.add (local.get $b1) (i64.rotl
            (i64.xor (local.get $b2) (i64.mul (i64.const 0x87c37b91114253d5) (i64.rotl
              (i64.mul (i64.load offset=8 (local.get $b)) (i64.const 0x4cf5ad432745937f)) (i64.const 33))))
            (i64.const 31)))) (i64.const 0x38495ab5)))
          (local.set $b (i32.add (local.get $b) (i32.const 16)))
          (br_if $groups (i32.lt_u
            (local.tee $a (i32.add (local.get $a) (i32.const 16)))
            (local.get $end))))
        (call $finish (local.get $a1) (local.get $a2)
          (i32.add (i32.const 1048576) (i32.shl (local.get $block) (i32.const 4))))
        (call $finish (local.get $b1) (local.get $b2)
          (i32.add (i32.const 1048576) (i32.shl (local.get $other) (i32.const 4))))
        (local.set $block (i32.add (local.get $block) (i32.const 2)))
        (br $pairs)))))
